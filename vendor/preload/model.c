/*
 * GENARM_HOST_MODELS holds the models under `hosts:`, as `genarm run` has found them: one per line, as KIND, WHAT and the name in the
 * configuration with tabs between them. The first that fits wins.
 *
 *   file     path of a model
 *   glob     pattern of paths; without a slash, of file names
 *   ollama   path of a manifest in Ollama's store, which is read when the program starts: so what `ollama pull` brings meanwhile counts
 *   hub      USER/REPO[:QUANT] or USER/REPO/FILE on the Hugging Face hub, where the program is given that
 *   default  USER/REPO on the hub, where the program is given that and no more
 *
 * The program's model is that of its command line, or of LLAMA_ARG_MODEL or LLAMA_ARG_HF_REPO. A program that makes embeddings has no
 * text to guide.
 */
#define _GNU_SOURCE
#include "model.h"

#include <fnmatch.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#ifdef __APPLE__
#include <crt_externs.h>
#endif

static struct {
    bool   guided;
    char * entry;
    char * model;
} answer;

/* A file as a C string, to be freed; NULL where it cannot be read. `size` may be NULL. */
static char * read_file(const char * path, size_t * size) {
    FILE * file = fopen(path, "r");
    char * text = NULL;
    size_t n = 0, room = 0;
    while (file && !feof(file) && !ferror(file)) {
        if (n + 1 >= room) {
            char * more = realloc(text, room = 2 * room + 4096);
            if (!more) {
                break;
            }
            text = more;
        }
        n += fread(text + n, 1, room - n - 1, file);
    }
    if (file) {
        fclose(file);
    }
    if (text) {
        text[n] = 0;
    }
    if (size) {
        *size = n;
    }
    return text;
}

/* The program's arguments, NULL at their end; they are never freed. */
static char ** arguments(void) {
#ifdef __APPLE__
    return *_NSGetArgv();
#else
    size_t  size = 0;
    char *  text = read_file("/proc/self/cmdline", &size);
    char ** list = text ? calloc(size + 1, sizeof *list) : NULL;
    size_t  n    = 0;
    for (char * at = text; list && at < text + size; at += strlen(at) + 1) {
        list[n++] = at;
    }
    return list;
#endif
}

static bool is_one_of(const char * text, const char * const * list) {
    while (*list && strcmp(text, *list) != 0) {
        list++;
    }
    return *list;
}

/* Whether a variable that stands for a switch of llama.cpp is on. */
static bool is_on(const char * variable) {
    static const char * const words[] = { "1", "on", "enabled", "true", NULL };
    const char *              value   = getenv(variable);
    return value && is_one_of(value, words);
}

/* A file of a repository, as USER/REPO/FILE: of `-hf USER/REPO[:QUANT]` with `-hff FILE`, which counts before QUANT. */
static const char * file_of_hub(const char * hub, const char * file) {
    size_t n     = strcspn(hub, ":");
    size_t size  = n + strlen(file) + 2;
    char * whole = malloc(size); /* never freed, as the arguments are not */
    if (whole) {
        snprintf(whole, size, "%.*s/%s", (int) n, hub, file);
    }
    return whole;
}

/* The program's model: its file, or its name on the hub. As in llama.cpp, the last flag counts. False where it has none, or makes
 * embeddings. */
static bool model_of_program(const char ** model, const char ** hub) {
    static const char * const embeds[] = { "--embedding", "--embeddings", "--rerank", "--reranking", NULL };
    static const char * const files[]  = { "-m", "--model", NULL };
    static const char * const hubs[]   = { "-hf", "-hfr", "--hf-repo", NULL };
    static const char * const of_hub[] = { "-hff", "--hf-file", NULL };
    bool                      of_text  = !is_on("LLAMA_ARG_EMBEDDINGS") && !is_on("LLAMA_ARG_RERANKING");
    char **                   argument = arguments();
    *model                             = getenv("LLAMA_ARG_MODEL");
    *hub                               = getenv("LLAMA_ARG_HF_REPO");
    const char * file                  = getenv("LLAMA_ARG_HF_FILE");
    if (argument && *argument) {
        argument++;
    }
    for (; argument && *argument; argument++) {
        if (is_one_of(*argument, embeds)) {
            of_text = false;
        } else if (is_one_of(*argument, files) && argument[1]) {
            *model = *++argument;
        } else if (is_one_of(*argument, hubs) && argument[1]) {
            *hub = *++argument;
        } else if (is_one_of(*argument, of_hub) && argument[1]) {
            file = *++argument;
        } else if (strncmp(*argument, "--model=", 8) == 0) {
            *model = *argument + 8;
        }
    }
    *model = *model && **model ? *model : NULL;
    *hub   = *hub && **hub ? *hub : NULL;
    if (*hub && file && *file) {
        *hub = file_of_hub(*hub, file);
    }
    return of_text && (*model || *hub);
}

/* Two texts as one, to be freed. */
static char * joined(const char * a, const char * b) {
    size_t size  = strlen(a) + strlen(b) + 1;
    char * whole = malloc(size);
    if (whole) {
        snprintf(whole, size, "%s%s", a, b);
    }
    return whole;
}

/* A path from the root without `//` and `/./`, to be freed. */
static char * absolute(const char * path) {
    char folder[4096];
    bool is_whole = *path == '/' || !getcwd(folder, sizeof folder - 1);
    if (!is_whole) {
        strcat(folder, "/");
    }
    char *       whole = is_whole ? strdup(path) : joined(folder, path);
    const char * from  = whole;
    char *       to    = whole;
    while (from && *from) {
        if (strncmp(from, "//", 2) == 0) {
            from += 1;
        } else if (strncmp(from, "/./", 3) == 0) {
            from += 2;
        } else {
            *to++ = *from++;
        }
    }
    if (to) {
        *to = 0;
    }
    return whole;
}

static const char * file_name(const char * path) {
    const char * slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* The path of a file in its folder without symbolic links, to be freed: the file itself may be one. */
static char * in_real_folder(const char * path) {
    char * folder = strdup(path);
    char * name   = folder ? strrchr(folder, '/') : NULL;
    char * real   = NULL;
    if (name) {
        *name = 0;
        real  = realpath(name == folder ? "/" : folder, NULL);
    }
    char * whole = real ? joined(strcmp(real, "/") == 0 ? "" : real, path + (name - folder)) : NULL;
    free(real);
    free(folder);
    return whole;
}

static bool is_same_file(const char * a, const char * b) {
    struct stat of_a, of_b;
    if (stat(a, &of_a) || stat(b, &of_b)) {
        return strcmp(a, b) == 0;
    }
    return of_a.st_dev == of_b.st_dev && of_a.st_ino == of_b.st_ino;
}

/* `real` is the model's path without symbolic links. */
static bool fits_pattern(const char * pattern, const char * model, const char * real) {
    if (!strchr(pattern, '/')) {
        return fnmatch(pattern, file_name(model), 0) == 0;
    }
    char * beside = in_real_folder(model);
    bool   fits   = fnmatch(pattern, model, FNM_PATHNAME) == 0 || fnmatch(pattern, real, FNM_PATHNAME) == 0 ||
                (beside && fnmatch(pattern, beside, FNM_PATHNAME) == 0);
    free(beside);
    return fits;
}

/* Whether a manifest lists this blob, `…/sha256-HEX`. A template or a licence, which it lists too, is never run as a model. */
static bool lists_blob(const char * manifest, const char * blob) {
    const char * name = file_name(blob);
    if (strncmp(name, "sha256", 6) != 0 || strlen(name) != 7 + 64) {
        return false;
    }
    char digest[7 + 64 + 1];
    snprintf(digest, sizeof digest, "sha256:%s", name + 7);
    char * text  = read_file(manifest, NULL);
    bool   lists = text && strstr(text, digest);
    free(text);
    return lists;
}

/* Whether a line names this file. */
static bool names_file(const char * kind, const char * what, const char * model) {
    char * real = realpath(model, NULL);
    bool   fits = (strcmp(kind, "file") == 0 && is_same_file(what, model)) ||
                  (strcmp(kind, "glob") == 0 && fits_pattern(what, model, real ? real : model)) ||
                  (strcmp(kind, "ollama") == 0 && (lists_blob(what, model) || (real && lists_blob(what, real))));
    free(real);
    return fits;
}

/* Whether a line names this model of the hub; without a quantisation or a file it names all of them. */
static bool names_hub(const char * kind, const char * what, const char * hub) {
    size_t       n        = strlen(what);
    const char * slash    = strchr(what, '/');
    bool         is_whole = !strchr(what, ':') && slash && !strchr(slash + 1, '/');
    if (strcmp(kind, "default") == 0) {
        return strcasecmp(what, hub) == 0;
    }
    return strcmp(kind, "hub") == 0 && strncasecmp(what, hub, n) == 0 && (!hub[n] || (is_whole && (hub[n] == ':' || hub[n] == '/')));
}

static void choose(void) {
    const char * given = getenv("GENARM_HOST_MODELS");
    const char * typed = NULL;
    const char * hub   = NULL;
    answer.guided      = !given;
    if (!given || !model_of_program(&typed, &hub)) {
        return;
    }
    char * model = typed ? absolute(typed) : NULL;
    char * lines = strdup(given);
    char * rest  = lines;
    for (char * line; rest && !answer.guided && (line = strsep(&rest, "\n"));) {
        const char * kind  = strsep(&line, "\t");
        const char * what  = strsep(&line, "\t");
        const char * entry = line;
        if (!what || !entry) {
            continue;
        }
        if (model && names_file(kind, what, model)) {
            answer.model = model;
        } else if (hub && names_hub(kind, what, hub)) {
            /* As the configuration spells it: stores distinguish case, and the hub does not. */
            size_t size  = strlen(hub) + sizeof "hf:";
            answer.model = malloc(size);
            if (answer.model) {
                snprintf(answer.model, size, "hf:%s%s", what, hub + strlen(what));
            }
        }
        answer.entry  = answer.model ? strdup(entry) : NULL;
        answer.guided = answer.entry;
    }
    free(lines);
    if (answer.model != model) {
        free(model);
    }
}

bool is_guided(const char ** entry, const char ** model) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, choose);
    *entry = answer.entry;
    *model = answer.model;
    return answer.guided;
}

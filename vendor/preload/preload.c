/*
 * The preload of genarm: puts the sampler "genarm" first into every sampler chain of an unmodified llama.cpp program.
 *
 *     LD_PRELOAD=libgenarm_preload.so GENARM_CONFIG=prefs.yaml llama-server -m base.gguf
 *
 * `genarm run -- llama-server -m base.gguf` sets this up. Some functions of llama.cpp are taken over, and their originals called:
 *
 *   llama_model_get_vocab      a tool asks for the vocabulary right before it makes a chain, on the same thread: so the shim knows
 *                              whose chain it is; and it asks once when it has loaded its model, which is when the ARMs are loaded
 *   llama_model_free           a vocabulary goes with its model, and another one may come to its address
 *   llama_sampler_chain_init   the new chain gets the sampler
 *
 * Here is no llama.cpp: its symbols would clash with the program's. libgenarm, which has one inside, is opened for itself alone.
 * Environment: GENARM_CONFIG (without it the shim does nothing), GENARM_HOST_MODELS (the models that are guided, see model.c; without
 * it all are), GENARM_PROFILE, GENARM_WEIGHTS ("helpful=1.2,harmless=0"), GENARM_LIBRARY (path of libgenarm; else it lies beside this
 * file), GENARM_STRICT=1 (end the program when its base cannot be guided), GENARM_RUN (set by `genarm run`: report a program that
 * cannot be guided because it shares no llama.cpp).
 */
#define _GNU_SOURCE
#include "../../include/genarm.h"
#include "inside.h"
#include "model.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ELF programs call whoever comes first under a name. macOS has a table of replacements instead (not tested there): it leaves the
 * calls of this library alone, so they reach the originals. dlsym may return a replacement, and so must not look for them there: a
 * replacement that calls itself would never end. */
#ifdef __APPLE__
#define OURS(name)             genarm_##name
#define PROGRAM_NAME           getprogname()
#define ORIGINAL(name, caller) ((void) (caller), &name)
#define TAKEN_OVER             static
#define BESIDE_NAME            "libgenarm.dylib"
#else
#define OURS(name)             name
#define PROGRAM_NAME           program_invocation_short_name
#define ORIGINAL(name, caller) ((__typeof__(&name)) original(#name, caller))
#define TAKEN_OVER             __attribute__((visibility("default")))
#define BESIDE_NAME            "libgenarm.so"
#endif

struct llama_model;
struct llama_sampler_chain_params {
    bool no_perf;
};

/* What is taken over. On macOS these are the program's own, where it has them. */
#ifdef __APPLE__
#define DECLARED extern __attribute__((weak_import))
#else
#define DECLARED TAKEN_OVER
#endif
DECLARED struct llama_sampler * llama_sampler_chain_init(struct llama_sampler_chain_params params);
DECLARED const struct llama_vocab * llama_model_get_vocab(const struct llama_model * model);
DECLARED void llama_model_free(struct llama_model * model);
DECLARED void llama_free_model(struct llama_model * model); /* what older programs call */

typedef void (*chain_add_fn)(struct llama_sampler * chain, struct llama_sampler * sampler);
typedef struct llama_sampler * (*sampler_init_fn)(struct llama_sampler_i * iface, void * ctx);
typedef int32_t (*model_desc_fn)(const struct llama_model * model, char * text, size_t size);

static struct {
    genarm * guidance;
    __typeof__(&genarm_sampler_new) sampler_new;
    __typeof__(&genarm_check_vocabulary) check_vocabulary;
    __typeof__(&genarm_last_error) last_error;
} plugin;

/* A model that the program has asked for its vocabulary, and not freed yet. */
struct known {
    const struct llama_model * model;
    const struct llama_vocab * vocab;
    char                       name[128];
    bool                       told; /* that its chains are not guided */
    struct known *             next;
};

static struct known *  known;
static pthread_mutex_t known_lock = PTHREAD_MUTEX_INITIALIZER; /* no model is freed while it is held */

static bool seen_chain;
static bool seen_refusal; /* under known_lock, but at the start */
static _Thread_local const struct llama_vocab * vocab_of_thread;

/* Says why the program is not guided. */
static void refuse(const char * why) {
    const char * strict = getenv("GENARM_STRICT");
    const bool   end    = strict && strcmp(strict, "1") == 0;
    /* Ollama shows its client what follows "error:". */
    fprintf(stderr, "genarm: %s%s; %s\n", end ? "error: " : "", why, end ? "ending (GENARM_STRICT=1)" : "going on without guidance");
    if (end) {
        _exit(1);
    }
}

/* libgenarm beside this file. */
static void beside(char * path, size_t size) {
    Dl_info      info;
    const char * file  = dladdr((void *) &beside, &info) && info.dli_fname ? info.dli_fname : "";
    const char * slash = strrchr(file, '/');
    snprintf(path, size, "%.*s" BESIDE_NAME, slash ? (int) (slash - file + 1) : 0, file);
}

static void load(void) {
    const char * config = getenv("GENARM_CONFIG");
    const char * entry;
    const char * model;
    if (!config || !*config || !is_guided(&entry, &model)) {
        return;
    }
    char         path[4096];
    const char * given = getenv("GENARM_LIBRARY");
    if (given && *given) {
        snprintf(path, sizeof path, "%s", given);
    } else {
        beside(path, sizeof path);
    }
    void * library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        refuse(dlerror());
        return;
    }
    __typeof__(&genarm_abi_version) abi_version = (__typeof__(abi_version)) dlsym(library, "genarm_abi_version");
    __typeof__(&genarm_open_file)   open_file   = (__typeof__(open_file)) dlsym(library, "genarm_open_file");
    __typeof__(&genarm_open_host)   open_host   = (__typeof__(open_host)) dlsym(library, "genarm_open_host");
    __typeof__(&genarm_watch)       watch       = (__typeof__(watch)) dlsym(library, "genarm_watch");
    plugin.sampler_new      = (__typeof__(plugin.sampler_new)) dlsym(library, "genarm_sampler_new");
    plugin.check_vocabulary = (__typeof__(plugin.check_vocabulary)) dlsym(library, "genarm_check_vocabulary");
    plugin.last_error       = (__typeof__(plugin.last_error)) dlsym(library, "genarm_last_error");
    if (!abi_version || !open_file || !open_host || !watch || !plugin.sampler_new || !plugin.check_vocabulary || !plugin.last_error ||
        abi_version() != GENARM_ABI_VERSION) {
        refuse("libgenarm is of another version than its preload");
        return;
    }
    genarm *      guidance = NULL;
    const char *  profile  = getenv("GENARM_PROFILE");
    const char *  weights  = getenv("GENARM_WEIGHTS");
    genarm_status status   = entry ? open_host(config, entry, model, profile, weights, &guidance)
                                   : open_file(config, profile, weights, &guidance);
    if (status != GENARM_OK) {
        refuse(plugin.last_error());
        return;
    }
    if (watch(guidance) != GENARM_OK) {
        fprintf(stderr, "genarm: %s; weights stay as they are\n", plugin.last_error());
    }
    plugin.guidance = guidance;
}

static void load_once(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, load);
}

/* The library that an address belongs to. */
static void * library_of(const void * address) {
    Dl_info info;
    return dladdr(address, &info) ? info.dli_fbase : NULL;
}

/* The original of a function of llama.cpp: in a library after this one, or in that of the caller, where a program has opened
 * libllama for itself alone. */
static void * lookup(const char * name, const void * caller) {
    void * found = dlsym(RTLD_NEXT, name);
    if (!found) {
        Dl_info info;
        void *  library = dladdr(caller, &info) ? dlopen(info.dli_fname, RTLD_NOW | RTLD_NOLOAD) : NULL;
        if (library) {
            found = dlsym(library, name);
            dlclose(library);
        }
    }
    return found;
}

static void * original(const char * name, const void * caller) {
    void * found = lookup(name, caller);
    if (!found) {
        fprintf(stderr, "genarm: %s was called, and no library has it\n", name);
        abort();
    }
    return found;
}

/* The entry of a vocabulary. Under the lock. */
static struct known * find_known(const struct llama_vocab * vocab) {
    struct known * entry = known;
    while (entry && entry->vocab != vocab) {
        entry = entry->next;
    }
    return entry;
}

static void remember(const struct llama_model * model, const struct llama_vocab * vocab, const void * caller) {
    pthread_mutex_lock(&known_lock);
    if (vocab && !find_known(vocab)) {
        struct known * entry = calloc(1, sizeof *entry);
        if (entry) {
            model_desc_fn desc = (model_desc_fn) lookup("llama_model_desc", caller);
            if (!desc || desc(model, entry->name, sizeof entry->name) <= 0) {
                snprintf(entry->name, sizeof entry->name, "without a name");
            }
            entry->model = model;
            entry->vocab = vocab;
            entry->next  = known;
            known        = entry;
        }
    }
    pthread_mutex_unlock(&known_lock);
}

static void forget(const struct llama_model * model) {
    pthread_mutex_lock(&known_lock);
    for (struct known ** at = &known; *at;) {
        struct known * entry = *at;
        if (entry->model == model) {
            *at = entry->next;
            free(entry);
        } else {
            at = &entry->next;
        }
    }
    pthread_mutex_unlock(&known_lock);
}

/* Whether the program has a model that can be guided. Under the lock. */
static bool has_base(sampler_init_fn init) {
    for (const struct known * entry = known; entry; entry = entry->next) {
        if (plugin.check_vocabulary(plugin.guidance, entry->vocab, init) == GENARM_OK) {
            return true;
        }
    }
    return false;
}

/* A chain is not guided. Where the program has a model that is, this one is another: it drafts, for example. */
static void refuse_chain(struct known * entry, sampler_init_fn init) {
    char why[1024];
    snprintf(why, sizeof why, "%s", plugin.last_error());
    if (entry && has_base(init)) {
        if (!entry->told) {
            entry->told = true;
            fprintf(stderr, "genarm: the model \"%s\" is not guided, as it is not the base of the configuration: %s\n", entry->name,
                    why);
        }
    } else if (!seen_refusal) {
        seen_refusal = true;
        refuse(why);
    }
}

static void steer(struct llama_sampler * chain, const void * caller) {
    load_once();
    if (!plugin.guidance) {
        return;
    }
    chain_add_fn           add     = (chain_add_fn) original("llama_sampler_chain_add", caller);
    sampler_init_fn        init    = (sampler_init_fn) original("llama_sampler_init", caller);
    struct llama_sampler * sampler = NULL;
    pthread_mutex_lock(&known_lock);
    /* One that has gone says nothing any more: then only the number of tokens is compared. */
    struct known *             entry = find_known(vocab_of_thread);
    const struct llama_vocab * vocab = entry ? entry->vocab : NULL;
    if (plugin.sampler_new(plugin.guidance, vocab, init, &sampler) == GENARM_OK) {
        add(chain, sampler);
    } else {
        refuse_chain(entry, init);
    }
    pthread_mutex_unlock(&known_lock);
}

TAKEN_OVER struct llama_sampler * OURS(llama_sampler_chain_init)(struct llama_sampler_chain_params params) {
    const void *                            caller = __builtin_return_address(0);
    __typeof__(&llama_sampler_chain_init)   real   = ORIGINAL(llama_sampler_chain_init, caller);
    struct llama_sampler *                  chain  = real(params);
    seen_chain                                     = true;
    /* llama.cpp clones a chain by making an empty one and cloning each sampler into it, ours too: that one must stay empty. */
    if (chain && library_of(caller) != library_of((void *) real)) {
        steer(chain, caller);
    }
    return chain;
}

TAKEN_OVER const struct llama_vocab * OURS(llama_model_get_vocab)(const struct llama_model * model) {
    const void *                       caller = __builtin_return_address(0);
    __typeof__(&llama_model_get_vocab) real   = ORIGINAL(llama_model_get_vocab, caller);
    const struct llama_vocab *         vocab  = real(model);
    if (library_of(caller) != library_of((void *) real)) {
        vocab_of_thread = vocab;
        remember(model, vocab, caller);
        load_once();
    }
    return vocab;
}

TAKEN_OVER void OURS(llama_model_free)(struct llama_model * model) {
    __typeof__(&llama_model_free) real = ORIGINAL(llama_model_free, __builtin_return_address(0));
    forget(model);
    real(model);
}

TAKEN_OVER void OURS(llama_free_model)(struct llama_model * model) {
    __typeof__(&llama_free_model) real = ORIGINAL(llama_free_model, __builtin_return_address(0));
    forget(model);
    real(model);
}

#ifdef __APPLE__
__attribute__((used, section("__DATA,__interpose"))) static const void * const replacements[][2] = {
    { (const void *) genarm_llama_sampler_chain_init, (const void *) llama_sampler_chain_init },
    { (const void *) genarm_llama_model_get_vocab, (const void *) llama_model_get_vocab },
    { (const void *) genarm_llama_model_free, (const void *) llama_model_free },
    { (const void *) genarm_llama_free_model, (const void *) llama_free_model },
};
#endif

/* A program with llama.cpp linked into itself, or opened for itself alone, never comes here: it should not look guided. One without
 * llama.cpp has nothing to guide, as the shell or the server that starts others. */
static bool is_closed(const char ** entry) {
    const char * model;
    return getenv("GENARM_RUN") && is_guided(entry, &model) && !dlsym(RTLD_NEXT, "llama_sampler_chain_init") && holds_llama_cpp();
}

#define CLOSED                                                                                                                       \
    "shares no llama.cpp library that genarm could enter (linked statically, or opened by Python); docs/plugin.md has the other ways"

/* A program that runs a model of `hosts:` should be guided, whatever it does later. */
__attribute__((constructor)) static void check_at_the_start(void) {
    const char * entry = NULL;
    if (is_closed(&entry) && entry) {
        char why[512];
        snprintf(why, sizeof why, "%s runs %s and " CLOSED, PROGRAM_NAME, entry);
        seen_refusal = true;
        refuse(why);
    }
}

__attribute__((destructor)) static void complain(void) {
    const char * entry;
    if (!seen_chain && !seen_refusal && is_closed(&entry)) {
        fprintf(stderr, "genarm: this program was not guided: %s " CLOSED "\n", PROGRAM_NAME);
    }
}

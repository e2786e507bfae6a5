/* What Ollama starts: without a model it says what devices there are, or waits; with `--model FILE` it prints its chain, or, with
 * `--port N`, serves a row at a time to one client on the loopback, as host.c does. Its tokens are in FILE.tokens, or in hub.tokens for
 * `-hf NAME`. It knows nothing of genarm; at its end it says whether libgenarm was loaded. */
#define main host_main
#include "../cases/host.c"
#undef main
#define main tool_main
#include "tool.c"
#undef main

#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const char * libgenarm(void) {
    FILE *       maps = fopen("/proc/self/maps", "r");
    const char * is   = "without";
    char         line[4096];
    while (maps && fgets(line, sizeof line, maps)) {
        if (strstr(line, "/libgenarm.so")) {
            is = "with";
        }
    }
    if (maps) {
        fclose(maps);
    }
    return is;
}

/* Standard input and output become the client's. */
static void accept_client(int port) {
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((uint16_t) port), .sin_addr = { htonl(INADDR_LOOPBACK) } };
    int                server  = socket(AF_INET, SOCK_STREAM, 0);
    int                yes     = 1;
    setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(server, (struct sockaddr *) &address, sizeof address) || listen(server, 1)) {
        exit(5);
    }
    int client = accept(server, NULL, NULL);
    dup2(client, 0);
    dup2(client, 1);
    close(client);
    close(server);
}

int main(int argc, char ** argv) {
    const char * model = getenv("LLAMA_ARG_MODEL");
    bool         hub   = false;
    int          port  = 0;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--list-devices") == 0) {
            puts("Available devices:");
            return 0;
        }
        if (i + 1 < argc && (strcmp(argv[i], "--model") == 0 || strcmp(argv[i], "-m") == 0)) {
            model = argv[++i];
        } else if (i + 1 < argc && strcmp(argv[i], "-hf") == 0) {
            hub   = true;
            model = argv[++i];
        } else if (strncmp(argv[i], "--model=", 8) == 0) {
            model = argv[i] + 8;
        } else if (i + 1 < argc && strcmp(argv[i], "--port") == 0) {
            port = atoi(argv[++i]);
        }
    }
    if (!model) {
        fputs("system_info: none\n", stderr);
        pause();
    }
    char tokens[4096];
    snprintf(tokens, sizeof tokens, "%s.tokens", hub ? "hub" : model);
    int status = 0;
    if (port) {
        accept_client(port);
        status = host_main(2, (char *[]) { argv[0], tokens, NULL });
    } else {
        struct llama_model * loaded = llama_model_load(tokens);
        if (!loaded) {
            return 3;
        }
        llama_sampler_free(make("chain", loaded));
        llama_model_free(loaded);
    }
    fflush(stdout);
    fprintf(stderr, "%s libgenarm\n", libgenarm());
    return status;
}

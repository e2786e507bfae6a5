/* Starts servers as Ollama does: `ollama SERVER MODEL ARGUMENT…` probes for devices without a model, then starts the server with the
 * model's file and a random port, in its own environment, and passes on what its client writes and the server answers. */
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static pid_t start(char ** arguments, int err) {
    pid_t child = fork();
    if (child == 0) {
        if (err >= 0) {
            dup2(err, 2);
        }
        execv(arguments[0], arguments);
        _exit(127);
    }
    return child;
}

static int status_of(pid_t child) {
    int status;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

/* What there is: a server without a model, killed when it has said so, and the list of devices. */
static void probe(char * server) {
    int  pipe_of[2];
    char line[256];
    if (pipe(pipe_of)) {
        exit(6);
    }
    pid_t child = start((char *[]) { server, "--port", "49200", "--host", "127.0.0.1", "--no-webui", "--offline", NULL }, pipe_of[1]);
    close(pipe_of[1]);
    FILE * said = fdopen(pipe_of[0], "r");
    while (fgets(line, sizeof line, said) && !strstr(line, "system_info:")) {
        fputs(line, stderr);
    }
    kill(child, SIGKILL);
    status_of(child);
    fclose(said);
    int out = dup(1), nowhere = open("/dev/null", O_WRONLY); /* the list is Ollama's affair */
    dup2(nowhere, 1);
    child = start((char *[]) { server, "--list-devices", "--offline", "--verbose", NULL }, -1);
    dup2(out, 1);
    close(nowhere);
    close(out);
    if (status_of(child)) {
        exit(7);
    }
}

static struct sockaddr_in loopback(int port) {
    return (struct sockaddr_in) { .sin_family = AF_INET, .sin_port = htons((uint16_t) port), .sin_addr = { htonl(INADDR_LOOPBACK) } };
}

static int free_port(void) {
    struct sockaddr_in address = loopback(0);
    socklen_t          size    = sizeof address;
    int                probe   = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(probe, (struct sockaddr *) &address, size) || getsockname(probe, (struct sockaddr *) &address, &size)) {
        exit(8);
    }
    close(probe);
    return ntohs(address.sin_port);
}

/* -1 where the server has ended. */
static int connect_to(int port, pid_t server) {
    struct sockaddr_in address = loopback(port);
    for (;;) {
        int client = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(client, (struct sockaddr *) &address, sizeof address) == 0) {
            return client;
        }
        close(client);
        siginfo_t ended = { 0 };
        if (waitid(P_PID, (id_t) server, &ended, WEXITED | WNOHANG | WNOWAIT) || ended.si_pid) {
            return -1;
        }
        usleep(10000);
    }
}

/* Passes on what is there; false at the end. */
static int pass(int from, int to) {
    char    bytes[1 << 16];
    ssize_t n = read(from, bytes, sizeof bytes);
    for (ssize_t done = 0; done < n;) {
        ssize_t more = write(to, bytes + done, (size_t) (n - done));
        if (more <= 0) {
            return 0;
        }
        done += more;
    }
    return n > 0;
}

int main(int argc, char ** argv) {
    if (argc < 3) {
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    /* The server's libraries are beside it. */
    const char * folders = getenv("LD_LIBRARY_PATH");
    const char * slash   = strrchr(argv[1], '/');
    char         path[8192];
    snprintf(path, sizeof path, "%.*s:%s", slash ? (int) (slash - argv[1]) : 0, argv[1], folders ? folders : "");
    setenv("LD_LIBRARY_PATH", path, 1);
    probe(argv[1]);
    char port[16];
    int  number = free_port();
    snprintf(port, sizeof port, "%d", number);
    char * fixed[] = { argv[1], "--model", argv[2], "--port", port, "--host", "127.0.0.1", "--no-webui", "--offline", "-c", "2048" };
    size_t n       = sizeof fixed / sizeof *fixed;
    char ** all    = calloc(n + (size_t) argc, sizeof *all);
    memcpy(all, fixed, sizeof fixed);
    memcpy(all + n, argv + 3, (size_t) (argc - 3) * sizeof *all);
    pid_t         server = start(all, -1);
    int           client = connect_to(number, server);
    struct pollfd ends[] = { { .fd = client < 0 ? -1 : 0, .events = POLLIN }, { .fd = client, .events = POLLIN } };
    while (client >= 0 && poll(ends, 2, -1) > 0) {
        if (ends[0].revents && !pass(0, client)) {
            shutdown(client, SHUT_WR);
            ends[0].fd = -1;
        }
        if (ends[1].revents && !pass(client, 1)) {
            break;
        }
    }
    free(all);
    return status_of(server);
}

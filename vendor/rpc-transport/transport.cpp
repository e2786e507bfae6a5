// The transport under ggml's RPC backend: what transport.h declares, in the place of llama.cpp's own transport.cpp.
//
// ggml-rpc.cpp ends the process as soon as a server does not answer. This transport never fails towards it on the client's
// side: once a connection is lost (closed, silent for longer than the time-out, or of another protocol), what is sent is
// dropped and what is received is made up, harmlessly and in the length that ggml expects. The loss is kept by endpoint;
// genarm asks for it after each decode, and then throws the numbers away.
//
//   ggml-rpc.cpp   cmd (1 byte) | size (8) | payload          →   here   →   server
//                  size (8) | payload, for some commands      ←          ←
//
// The server's side behaves as llama.cpp's.

#include "transport.h"
#include "ggml-rpc.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <map>
#include <mutex>
#include <string>

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

static_assert(RPC_PROTO_MAJOR_VERSION == 7, "the protocol has changed: compare `command` and `reply` with ggml-rpc.cpp");

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0 // macOS: SO_NOSIGPIPE is set instead
#endif

namespace {

// ggml-rpc.cpp's rpc_cmd, as far as it is answered.
enum command : uint8_t {
    ALLOC_BUFFER = 0,
    GET_ALIGNMENT = 1,
    GET_MAX_SIZE = 2,
    BUFFER_GET_BASE = 3,
    SET_TENSOR_HASH = 7,
    GET_TENSOR = 8,
    COPY_TENSOR = 9,
    GET_DEVICE_MEMORY = 11,
    GET_ALLOC_SIZE = 13,
    HELLO = 14,
    DEVICE_COUNT = 15,
};

std::mutex mutex;
// Why the connection to an endpoint is lost; absent while it is not.
std::map<std::string, std::string> faults;
int timeout_ms = 30000;

// A made-up answer: its length, and its first bytes; the rest is zero.
struct answer {
    uint64_t size;
    uint64_t first;
};

answer reply(uint8_t cmd, uint64_t n_tensor_bytes) {
    switch (cmd) {
        case ALLOC_BUFFER: return {16, 0};              // no buffer: reported by ggml as an allocation that failed
        case GET_ALIGNMENT: return {8, 512};            // kept by ggml for good, so one that suits every device
        case GET_MAX_SIZE: return {8, UINT64_MAX};      // likewise
        case BUFFER_GET_BASE: return {8, 1 << 16};      // ggml aborts on NULL
        case SET_TENSOR_HASH: return {1, 1};            // "have it already"
        case GET_TENSOR: return {n_tensor_bytes, 0};
        case COPY_TENSOR: return {1, 1};
        case GET_DEVICE_MEMORY: return {16, 0};
        case GET_ALLOC_SIZE: return {8, 0};
        case HELLO: return {4 + RPC_CONN_CAPS_SIZE, RPC_PROTO_MAJOR_VERSION};
        case DEVICE_COUNT: return {4, 0};
        default: return {0, 0};
    }
}

std::string reason(const char * what, int waited_ms) {
    if (errno == EAGAIN || errno == EWOULDBLOCK) {
        return "no answer for " + std::to_string(waited_ms / 1000) + " s";
    }
    return std::string(what) + ": " + strerror(errno);
}

} // namespace

struct socket_t::impl {
    int fd = -1;
    // The client's side only.
    bool client = false;
    int waits_ms = timeout_ms;
    bool lost = false;
    std::string endpoint;
    int stage = 0; // 0: a command is sent next, 1: its size, 2: its payload
    uint8_t cmd = 0;
    uint64_t n_tensor_bytes = 0;
    bool in_reply = false; // the length of the answer has been read

    ~impl() {
        if (fd >= 0) {
            close(fd);
        }
    }

    void lose(const std::string & why) {
        lost = true;
        std::lock_guard<std::mutex> lock(mutex);
        faults[endpoint] = why;
    }

    void note_sent(const void * data, size_t size) {
        if (stage == 0) {
            cmd = *(const uint8_t *) data;
            in_reply = false;
        } else if (stage == 2 && cmd == GET_TENSOR && size >= sizeof(n_tensor_bytes)) {
            // The request ends with the number of bytes wanted.
            memcpy(&n_tensor_bytes, (const uint8_t *) data + size - sizeof(n_tensor_bytes), sizeof(n_tensor_bytes));
        }
        stage = (stage + 1) % 3;
    }

    bool write_all(const void * data, size_t size) {
        for (size_t done = 0; done < size;) {
            ssize_t n = send(fd, (const char *) data + done, std::min(size - done, MAX_CHUNK_SIZE), MSG_NOSIGNAL);
            if (n < 0 && errno == EINTR) {
                continue;
            }
            if (n < 0) {
                return false;
            }
            done += (size_t) n;
        }
        return true;
    }

    bool read_all(void * data, size_t size, std::string & why) {
        for (size_t done = 0; done < size;) {
            ssize_t n = recv(fd, (char *) data + done, std::min(size - done, MAX_CHUNK_SIZE), 0);
            if (n < 0 && errno == EINTR) {
                continue;
            }
            if (n <= 0) {
                why = n == 0 ? "it closed the connection" : reason("cannot receive", waits_ms);
                return false;
            }
            done += (size_t) n;
        }
        return true;
    }

    // Fills in what a lost server would have answered.
    void make_up(void * data, size_t size) {
        answer a = reply(cmd, n_tensor_bytes);
        memset(data, 0, size);
        uint64_t word = in_reply ? a.first : a.size;
        memcpy(data, &word, std::min(size, sizeof(word)));
    }
};

socket_t::socket_t(std::unique_ptr<impl> p) : pimpl(std::move(p)) {}
socket_t::~socket_t() = default;

bool socket_t::send_data(const void * data, size_t size) {
    if (!pimpl->client) {
        return pimpl->write_all(data, size);
    }
    pimpl->note_sent(data, size);
    if (!pimpl->lost && !pimpl->write_all(data, size)) {
        pimpl->lose(reason("cannot send", pimpl->waits_ms));
    }
    return true;
}

bool socket_t::recv_data(void * data, size_t size) {
    std::string why;
    if (!pimpl->client) {
        return pimpl->read_all(data, size, why);
    }
    if (!pimpl->lost && !pimpl->read_all(data, size, why)) {
        pimpl->lose(why);
    }
    const uint8_t * bytes = (const uint8_t *) data;
    if (!pimpl->lost && pimpl->cmd == HELLO && pimpl->in_reply && bytes[0] != RPC_PROTO_MAJOR_VERSION) {
        pimpl->lose("it speaks RPC protocol " + std::to_string(bytes[0]) + "." + std::to_string(bytes[1]) +
                    ", this program 7; run servers of the same release");
    }
    if (!pimpl->lost && !pimpl->in_reply) {
        uint64_t length;
        memcpy(&length, data, sizeof(length));
        if (length != reply(pimpl->cmd, pimpl->n_tensor_bytes).size) {
            pimpl->lose("it does not answer as a ggml RPC server");
        }
    }
    if (pimpl->lost) {
        pimpl->make_up(data, size);
    }
    pimpl->in_reply = true;
    return true;
}

bool socket_t::flush() {
    return true;
}

// No RDMA is offered.
void socket_t::get_caps(uint8_t * local_caps) {
    memset(local_caps, 0, RPC_CONN_CAPS_SIZE);
}

void socket_t::update_caps(const uint8_t *) {}

static void set_options(int fd) {
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
#ifdef SO_NOSIGPIPE
    setsockopt(fd, SOL_SOCKET, SO_NOSIGPIPE, &on, sizeof(on));
#endif
}

socket_ptr socket_t::accept() {
    int fd;
    do {
        fd = ::accept(pimpl->fd, nullptr, nullptr);
    } while (fd < 0 && (errno == EINTR || errno == ECONNABORTED));
    if (fd < 0) {
        return nullptr;
    }
    set_options(fd);
    auto p = std::make_unique<impl>();
    p->fd = fd;
    return socket_ptr(new socket_t(std::move(p)));
}

socket_ptr socket_t::create_server(const char * host, int port) {
    auto p = std::make_unique<impl>();
    p->fd = socket(AF_INET, SOCK_STREAM, 0);
    int on = 1;
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_port = htons((uint16_t) port);
    if (p->fd < 0 || inet_pton(AF_INET, host, &address.sin_addr) != 1) {
        return nullptr;
    }
    setsockopt(p->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(p->fd, (sockaddr *) &address, sizeof(address)) < 0 || listen(p->fd, 1) < 0) {
        return nullptr;
    }
    return socket_ptr(new socket_t(std::move(p)));
}

// Connects within the time-out. Returns -1 and says why, or the descriptor.
static int connect_to(const char * host, int port, std::string & why) {
    addrinfo hints = {}, * found = nullptr;
    hints.ai_family = AF_UNSPEC;
    hints.ai_socktype = SOCK_STREAM;
    int code = getaddrinfo(host, std::to_string(port).c_str(), &hints, &found);
    if (code != 0) {
        why = std::string("cannot resolve the name: ") + gai_strerror(code);
        return -1;
    }
    int fd = -1;
    for (addrinfo * at = found; at && fd < 0; at = at->ai_next) {
        fd = socket(at->ai_family, at->ai_socktype, at->ai_protocol);
        if (fd < 0) {
            why = reason("no socket", 0);
            continue;
        }
        int flags = fcntl(fd, F_GETFL, 0);
        fcntl(fd, F_SETFL, flags | O_NONBLOCK);
        int result = connect(fd, at->ai_addr, at->ai_addrlen);
        if (result < 0 && errno == EINPROGRESS) {
            pollfd waiting = {fd, POLLOUT, 0};
            int error = ETIMEDOUT;
            socklen_t size = sizeof(error);
            if (poll(&waiting, 1, timeout_ms) > 0) {
                getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
            }
            errno = error;
            result = error == 0 ? 0 : -1;
        }
        if (result < 0) {
            why = reason("cannot connect", timeout_ms);
            close(fd);
            fd = -1;
            continue;
        }
        fcntl(fd, F_SETFL, flags);
    }
    freeaddrinfo(found);
    return fd;
}

socket_ptr socket_t::connect(const char * host, int port) {
    auto p = std::make_unique<impl>();
    p->client = true;
    p->endpoint = std::string(host) + ":" + std::to_string(port);
    std::string why;
    p->fd = connect_to(host, port, why);
    if (p->fd < 0) {
        p->lose(why);
    } else {
        set_options(p->fd);
        timeval time = {p->waits_ms / 1000, (p->waits_ms % 1000) * 1000};
        setsockopt(p->fd, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof(time));
        setsockopt(p->fd, SOL_SOCKET, SO_SNDTIMEO, &time, sizeof(time));
        std::lock_guard<std::mutex> lock(mutex);
        faults.erase(p->endpoint);
    }
    return socket_ptr(new socket_t(std::move(p)));
}

bool rpc_transport_init() {
    return true;
}

void rpc_transport_shutdown() {}

// How long a server may be silent, for connections from now on.
extern "C" void genarm_rpc_set_timeout(int ms) {
    timeout_ms = ms;
}

// Writes why the last connection to `endpoint` is lost, cut to `size` bytes with the NUL, and returns whether it is.
extern "C" bool genarm_rpc_fault(const char * endpoint, char * text, size_t size) {
    std::lock_guard<std::mutex> lock(mutex);
    auto found = faults.find(endpoint);
    if (found == faults.end()) {
        return false;
    }
    snprintf(text, size, "%s", found->second.c_str());
    return true;
}

/* An endpoint for measuring clients: takes S3, Azure Blob and Cloud Storage uploads, digests what arrives,
 * throws it away, and answers with the checksums that a verifying client asks for.
 *
 *     sink [--certificate FILE --key FILE] [--core N] [--rate BYTES_PER_SECOND] [--latency MILLISECONDS]
 *
 * Listens on a free port of 127.0.0.1 and writes {"port": N} to stdout; when it is told to end (SIGTERM) it
 * writes what it did: {"cpu_seconds", "bytes", "requests", "connections"}. --rate is a link's, shared by all
 * connections; --latency is the round trip, paid once per request, per TCP and per TLS handshake. */
#include "protocol.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

enum {
    WINDOW = 256 * 1024, /* read at once: what fits a core's second-level cache with room to spare */
    TURN = 1024 * 1024,  /* bytes after which the next connection has its turn */
};

typedef struct Connection {
    struct Connection *next, *previous;
    int fd;
    SSL *tls; /* NULL: plain */
    bool shaken, readable, in_body, closing;
    double asleep_until; /* 0: awake */
    const Protocol *protocol;
    Request request;
    Buffer out;
    size_t written;
} Connection;

static struct {
    const char *certificate, *key;
    double rate, latency; /* bytes a second (0: without limit), seconds */
    int core;
} options = {.core = -1};

static struct {
    uint64_t bytes, requests, connections;
} done;

static Connection everyone = {.next = &everyone, .previous = &everyone};
static SSL_CTX *context;
static double allowance, allowed_at; /* of the link: bytes it may carry now */
static char window[WINDOW];

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static void must(bool fine, const char *what) {
    if (fine) return;
    perror(what);
    ERR_print_errors_fp(stderr);
    exit(1);
}

/* --- the link ---------------------------------------------------------------------------------------- */

/* How many bytes may be taken now. What was not used within 5 ms is gone, as on a real link. */
static size_t allowed(void) {
    if (options.rate == 0) return WINDOW;
    double time = now(), most = options.rate * 0.005;
    allowance += (time - allowed_at) * options.rate;
    allowed_at = time;
    if (allowance > most) allowance = most;
    if (allowance < most / 4) return 0; /* not byte by byte */
    return allowance < WINDOW ? (size_t)allowance : WINDOW;
}

static void fall_asleep(Connection *connection, double seconds) {
    if (seconds > 0) connection->asleep_until = now() + seconds;
}

/* --- bytes in and out -------------------------------------------------------------------------------- */

/* Bytes read; 0: none there now; -1: the other side is gone. */
static long receive(Connection *connection, void *to, size_t room) {
    if (!connection->tls) {
        ssize_t n = recv(connection->fd, to, room, 0);
        return n > 0 ? n : n < 0 && errno == EAGAIN ? 0 : -1;
    }
    int n = SSL_read(connection->tls, to, (int)room);
    if (n > 0) return n;
    int error = SSL_get_error(connection->tls, n);
    return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ? 0 : -1;
}

static void send_out(Connection *connection) {
    Buffer *out = &connection->out;
    while (connection->written < out->size) {
        char *at = out->at + connection->written;
        size_t left = out->size - connection->written;
        long n = connection->tls ? SSL_write(connection->tls, at, (int)left)
                                 : send(connection->fd, at, left, MSG_NOSIGNAL);
        if (n <= 0) {
            bool later = connection->tls ? SSL_get_error(connection->tls, (int)n) == SSL_ERROR_WANT_WRITE
                                         : errno == EAGAIN;
            if (!later) connection->closing = true;
            return; /* EPOLLOUT comes back here */
        }
        connection->written += (size_t)n;
    }
    out->size = connection->written = 0;
}

/* --- requests ---------------------------------------------------------------------------------------- */

static void begin(Connection *connection) {
    Request *request = &connection->request;
    const Protocol *known[] = {&gcs, &azure, &s3};
    for (size_t i = 0; !connection->protocol; i++)
        if (known[i]->speaks(request)) connection->protocol = known[i];
    connection->protocol->begin(request);
    const char *expects = header(request, "expect");
    if (expects && !strcasecmp(expects, "100-continue")) {
        buffer_print(&connection->out, "HTTP/1.1 100 Continue\r\n\r\n");
        fall_asleep(connection, options.latency);
    }
}

static void finish(Connection *connection) {
    static Reply reply; /* its buffers are kept from one to the next */
    Request *request = &connection->request;
    reply.status = 200, reply.length = 0, reply.fields.size = reply.body.size = 0;
    connection->protocol->answer(request, &reply);
    reply_write(request, &reply, &connection->out);
    done.requests++;
    request_clear(request);
    connection->in_body = false, connection->protocol = NULL;
    fall_asleep(connection, options.latency);
}

/* What arrived belongs to one request or to two: the next one may begin behind it. */
static bool take(Connection *connection, const char *bytes, size_t n) {
    while (n) {
        Request *request = &connection->request;
        bool whole;
        long taken = connection->in_body ? request_body(request, bytes, n, &whole)
                                         : request_head(request, bytes, n, &whole);
        if (taken < 0) return false;
        bytes += taken, n -= (size_t)taken;
        if (!whole) continue;
        if (!connection->in_body) {
            begin(connection);
            connection->in_body = request_has_body(request);
        } else {
            connection->in_body = false;
        }
        if (!connection->in_body) finish(connection);
    }
    return true;
}

/* --- connections ------------------------------------------------------------------------------------- */

static void welcome(int listener, int epoll) {
    for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) {
        Connection *connection = calloc(1, sizeof *connection);
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
        connection->fd = fd;
        connection->shaken = !context;
        if (context) {
            connection->tls = SSL_new(context);
            SSL_set_fd(connection->tls, fd);
            SSL_set_accept_state(connection->tls);
        }
        connection->request.secure = context != NULL;
        connection->next = &everyone, connection->previous = everyone.previous;
        everyone.previous = everyone.previous->next = connection;
        struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = connection};
        epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
        fall_asleep(connection, options.latency * (context ? 2 : 1));
        done.connections++;
    }
}

static void part_with(Connection *connection) {
    connection->previous->next = connection->next;
    connection->next->previous = connection->previous;
    SSL_free(connection->tls);
    close(connection->fd);
    free(connection->request.kept.at), free(connection->out.at), free(connection);
}

/* Shake hands, send what is to be sent, read what is there: until it would block or has had its turn. */
static void serve(Connection *connection) {
    if (!connection->shaken) {
        int n = SSL_accept(connection->tls);
        if (n != 1) {
            int error = SSL_get_error(connection->tls, n);
            connection->closing = error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE;
            connection->readable = false;
            return;
        }
        connection->shaken = true;
    }
    send_out(connection);
    for (size_t turn = 0; turn < TURN && !connection->closing && !connection->asleep_until;) {
        size_t room = allowed();
        if (!room) return;
        long n = receive(connection, window, room);
        if (n <= 0) {
            connection->readable = false;
            connection->closing = n < 0;
            return;
        }
        done.bytes += (uint64_t)n, turn += (size_t)n;
        if (options.rate > 0) allowance -= (double)n;
        if (!take(connection, window, (size_t)n)) connection->closing = true;
        if (!connection->asleep_until) send_out(connection);
    }
}

/* One round over all that can do something; the seconds until somebody can again, -1: only an event. */
static double round_of_service(void) {
    double wait = -1;
    bool busy = false;
    for (Connection *connection = everyone.next, *next; connection != &everyone; connection = next) {
        next = connection->next;
        double time = connection->asleep_until ? now() : 0;
        if (connection->asleep_until > time) {
            double left = connection->asleep_until - time;
            wait = wait < 0 || left < wait ? left : wait;
            continue;
        }
        bool woken = connection->asleep_until > 0;
        connection->asleep_until = 0;
        if (connection->readable || woken) serve(connection);
        if (connection->asleep_until) wait = 0;
        if (connection->closing)
            part_with(connection);
        else
            busy |= connection->readable && !connection->asleep_until;
    }
    /* Whoever begins a round is first at the link's allowance: the next one begins with another. */
    if (everyone.next != &everyone) {
        Connection *first = everyone.next;
        everyone.next = first->next, first->next->previous = &everyone;
        first->next = &everyone, first->previous = everyone.previous;
        everyone.previous = everyone.previous->next = first;
    }
    return busy ? (allowed() ? 0 : 0.001) : wait;
}

/* --- the process ------------------------------------------------------------------------------------- */

static void read_options(int count, char **words) {
    static const struct option known[] = {{"certificate", 1, 0, 'c'}, {"key", 1, 0, 'k'},  {"core", 1, 0, 'n'},
                                          {"rate", 1, 0, 'r'},        {"latency", 1, 0, 'l'}, {0}};
    for (int which; (which = getopt_long(count, words, "", known, NULL)) != -1;) {
        if (which == 'c') options.certificate = optarg;
        else if (which == 'k') options.key = optarg;
        else if (which == 'n') options.core = atoi(optarg);
        else if (which == 'r') options.rate = atof(optarg);
        else if (which == 'l') options.latency = atof(optarg) / 1000;
        else exit(2);
    }
}

static void prepare_tls(void) {
    if (!options.certificate) return;
    context = SSL_CTX_new(TLS_server_method());
    must(SSL_CTX_use_certificate_chain_file(context, options.certificate) == 1, options.certificate);
    must(SSL_CTX_use_PrivateKey_file(context, options.key, SSL_FILETYPE_PEM) == 1, options.key);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    /* What Amazon's endpoints choose. */
    SSL_CTX_set_ciphersuites(context, "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384");
    SSL_CTX_set_options(context, SSL_OP_CIPHER_SERVER_PREFERENCE);
    /* Some records with one system call; with many, OpenSSL moves those not yet read about for each. */
    SSL_CTX_set_read_ahead(context, 1);
    SSL_CTX_set_default_read_buffer_len(context, 64 * 1024);
}

static int listen_somewhere(void) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    /* Behind a slow link nothing piles up at its far end: small buffers, inherited by each connection. */
    if (options.rate > 0) setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &(int){128 * 1024}, sizeof(int));
    must(bind(fd, (struct sockaddr *)&address, sizeof address) == 0 && listen(fd, 1024) == 0, "listen");
    getsockname(fd, (struct sockaddr *)&address, &size);
    printf("{\"port\": %d}\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

static void report(void) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    printf("{\"cpu_seconds\": %.6f, \"bytes\": %llu, \"requests\": %llu, \"connections\": %llu}\n",
           (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
               1e-6 * (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec),
           (unsigned long long)done.bytes, (unsigned long long)done.requests, (unsigned long long)done.connections);
}

int main(int count, char **words) {
    read_options(count, words);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGPIPE, SIG_IGN);
    crc_begin();
    prepare_tls();
    if (options.core >= 0) {
        cpu_set_t cores;
        CPU_ZERO(&cores);
        CPU_SET(options.core, &cores);
        must(sched_setaffinity(0, sizeof cores, &cores) == 0, "--core");
    }
    sigset_t signals;
    sigemptyset(&signals), sigaddset(&signals, SIGTERM), sigaddset(&signals, SIGINT);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    int told = signalfd(-1, &signals, SFD_CLOEXEC), listener = listen_somewhere();
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    must(epoll >= 0 && told >= 0, "epoll");
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &(struct epoll_event){.events = EPOLLIN, .data.ptr = &listener});
    epoll_ctl(epoll, EPOLL_CTL_ADD, told, &(struct epoll_event){.events = EPOLLIN, .data.ptr = &told});
    allowed_at = now();
    for (double wait = -1;;) {
        struct epoll_event events[256];
        struct timespec time = {.tv_sec = (time_t)wait, .tv_nsec = (long)(1e9 * (wait - (double)(time_t)wait))};
        int n = epoll_pwait2(epoll, events, 256, wait < 0 ? NULL : &time, NULL);
        for (int i = 0; i < n; i++) {
            void *what = events[i].data.ptr;
            if (what == &told) {
                report();
                return 0;
            }
            if (what == &listener)
                welcome(listener, epoll);
            else
                ((Connection *)what)->readable = true;
        }
        wait = round_of_service();
    }
}

/* TLS 1.3 handshakes, as many as go: each is a new connection, a handshake, one small GET, a close.

   usage: handshakes [--resume] [--conns N] [--threads N] [--seconds S] [--count N] [--group G] [--suite S] PORT PATH

   Group, cipher suite and signature schemes are the client's only offer, so that every server does the same work.
   Without --resume no connection uses a ticket. With it each of the N parallel places makes one full handshake, counted
   as `primed` and nothing else, and each later connection uses the newest ticket that the one before it was given.
   Prints JSON: `done` connections, of them `resumed` and `full`; `failed` ones, `late` ones (unfinished for two
   seconds at the end), percentiles in microseconds, and what was negotiated. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

enum { THREADS_MAX = 16, CONNS_MAX = 1024, TIMES_MAX = 1 << 18, ANSWER_BYTES_MAX = 16 << 10, LATE_US = 2000000 };
enum state { CONNECT, HANDSHAKE, SEND, ANSWER };

struct place {
    int fd;
    SSL *ssl;
    SSL_SESSION *ticket;
    enum state state;
    int used; /* not its first connection, which is the one that primes it */
    int64_t begun;
    size_t got;
    char answer[ANSWER_BYTES_MAX + 1];
};

struct worker {
    pthread_t thread;
    int epoll, conns, source;
    SSL_CTX *ctx;
    struct place *places;
    long done, failed, resumed, full, primed, late, times;
    uint32_t *us;
    char first_error[160], version[16], group[32], suite[48], key[32];
};

static struct {
    int resume, conns, threads, port;
    double seconds;
    long count;
    const char *group, *suite, *path;
} o = {.conns = 16, .threads = 1, .seconds = 2, .group = "X25519", .suite = "TLS_AES_128_GCM_SHA256"};
static char request[512];
static int64_t end;
static atomic_long begun;

static void die(const char *what) {
    fprintf(stderr, "handshakes: %s: %s\n", what, strerror(errno));
    ERR_print_errors_fp(stderr);
    exit(1);
}

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000000) + t.tv_nsec / 1000;
}

static int new_ticket(SSL *ssl, SSL_SESSION *ticket) {
    struct place *p = SSL_get_app_data(ssl);
    SSL_SESSION_free(p->ticket);
    p->ticket = ticket;
    return 1;
}

static int accept_any(X509_STORE_CTX *chain, void *arg) {
    (void)chain, (void)arg;
    return 1;
}

static void open_one(struct worker *w, struct place *p) {
    p->fd = -1;
    if (now() >= end || (o.count && atomic_fetch_add(&begun, 1) >= o.count))
        return;
    /* Each source address has ports of its own, so that those in TIME_WAIT are no limit. */
    w->source = w->source % 250 + 1;
    struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000100u + w->source)};
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(o.port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1;
    if ((p->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)) < 0)
        die("socket");
    setsockopt(p->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    setsockopt(p->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (bind(p->fd, (void *)&from, sizeof from))
        die("bind");
    if (connect(p->fd, (void *)&to, sizeof to) && errno != EINPROGRESS)
        die("connect");
    if (!(p->ssl = SSL_new(w->ctx)) || !SSL_set_fd(p->ssl, p->fd) || !SSL_set_tlsext_host_name(p->ssl, "localhost"))
        die("SSL_new");
    SSL_set_app_data(p->ssl, p);
    SSL_set_connect_state(p->ssl);
    if (p->ticket && !SSL_set_session(p->ssl, p->ticket))
        die("SSL_set_session");
    p->state = CONNECT, p->begun = now(), p->got = 0;
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = p};
    if (epoll_ctl(w->epoll, EPOLL_CTL_ADD, p->fd, &e))
        die("epoll_ctl");
}

/* The first connection says what was negotiated; another that differs has failed. */
static const char *negotiated(struct worker *w, SSL *ssl) {
    const char *group = OBJ_nid2sn(SSL_get_negotiated_group(ssl));
    EVP_PKEY *key = SSL_get0_peer_certificate(ssl) ? X509_get0_pubkey(SSL_get0_peer_certificate(ssl)) : NULL;
    char name[32] = "none";
    if (key)
        snprintf(name, sizeof name, "%s-%d", EVP_PKEY_get0_type_name(key), EVP_PKEY_get_bits(key));
    if (!w->version[0]) {
        snprintf(w->version, sizeof w->version, "%s", SSL_get_version(ssl));
        snprintf(w->group, sizeof w->group, "%s", group);
        snprintf(w->suite, sizeof w->suite, "%s", SSL_get_cipher_name(ssl));
        snprintf(w->key, sizeof w->key, "%s", name);
    }
    return strcmp(w->version, SSL_get_version(ssl)) || strcmp(w->group, group) || strcmp(w->key, name) ||
           strcmp(w->suite, SSL_get_cipher_name(ssl)) ? "another version, group, suite or key" : NULL;
}

static void close_one(struct worker *w, struct place *p, const char *error) {
    error = error ? error : negotiated(w, p->ssl);
    int reused = SSL_session_reused(p->ssl);
    if (error) {
        w->failed++;
        if (!w->first_error[0])
            snprintf(w->first_error, sizeof w->first_error, "%s", error);
        SSL_SESSION_free(p->ticket);
        p->ticket = NULL;
    } else if (o.resume && !p->used) {
        w->primed++;
    } else {
        w->done++, w->resumed += reused, w->full += !reused;
        if (w->times < TIMES_MAX)
            w->us[w->times++] = now() - p->begun;
    }
    if (!error)
        SSL_shutdown(p->ssl);
    SSL_free(p->ssl);
    close(p->fd);
    p->used = 1;
    open_one(w, p);
}

/* NULL: not whole yet */
static const char *whole(struct place *p) {
    p->answer[p->got] = 0;
    char *body = strstr(p->answer, "\r\n\r\n"), *length = strcasestr(p->answer, "\r\ncontent-length:");
    if (!body)
        return p->got == ANSWER_BYTES_MAX ? "an answer without end" : NULL;
    if (strncmp(p->answer, "HTTP/1.1 200 ", 13) || !length || length > body)
        return "not 200, or no Content-Length";
    return (size_t)(body + 4 - p->answer) + atol(length + 17) <= p->got ? "" : p->got == ANSWER_BYTES_MAX ? "too long" : NULL;
}

static void step(struct worker *w, struct place *p) {
    int r = 1;
    ERR_clear_error();
    if (p->state == CONNECT)
        p->state = HANDSHAKE;
    if (p->state == HANDSHAKE && (r = SSL_do_handshake(p->ssl)) == 1)
        p->state = SEND;
    if (p->state == SEND && (r = SSL_write(p->ssl, request, strlen(request))) > 0)
        p->state = ANSWER;
    while (p->state == ANSWER && (r = SSL_read(p->ssl, p->answer + p->got, ANSWER_BYTES_MAX - p->got)) > 0) {
        p->got += r;
        const char *end_of_it = whole(p);
        if (end_of_it) {
            close_one(w, p, end_of_it[0] ? end_of_it : NULL);
            return;
        }
    }
    int why = SSL_get_error(p->ssl, r);
    if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE) {
        const char *reason = ERR_reason_error_string(ERR_peek_error());
        close_one(w, p, reason ? reason : why == SSL_ERROR_ZERO_RETURN ? "closed before the answer" : "connection lost");
    }
}

static void *work(void *arg) {
    struct worker *w = arg;
    struct epoll_event events[64];
    for (int i = 0; i < w->conns; i++)
        open_one(w, &w->places[i]);
    for (int open = 1; open && now() < end + LATE_US;) {
        int n = epoll_wait(w->epoll, events, 64, 100);
        for (int i = 0; i < n; i++)
            step(w, events[i].data.ptr);
        open = 0;
        for (int i = 0; i < w->conns && !open; i++)
            open = w->places[i].fd >= 0;
    }
    for (int i = 0; i < w->conns; i++)
        w->late += w->places[i].fd >= 0;
    return NULL;
}

static void prepare(struct worker *w, int number, int conns) {
    w->conns = conns, w->source = number * 250 / THREADS_MAX;
    w->us = calloc(TIMES_MAX, sizeof *w->us);
    w->places = calloc(conns, sizeof *w->places);
    if ((w->epoll = epoll_create1(EPOLL_CLOEXEC)) < 0 || !w->us || !w->places)
        die("epoll_create1 or memory");
    /* One for each thread: they share no locks. */
    if (!(w->ctx = SSL_CTX_new(TLS_client_method())) || !SSL_CTX_set_min_proto_version(w->ctx, TLS1_3_VERSION) ||
        !SSL_CTX_set1_groups_list(w->ctx, o.group) || !SSL_CTX_set_ciphersuites(w->ctx, o.suite) ||
        !SSL_CTX_set1_sigalgs_list(w->ctx, "ecdsa_secp256r1_sha256:rsa_pss_rsae_sha256") ||
        SSL_CTX_set_alpn_protos(w->ctx, (const unsigned char *)"\x08http/1.1", 9))
        die("SSL_CTX_new");
    /* SSL_VERIFY_NONE would still build and verify a chain, and then forget the outcome. */
    SSL_CTX_set_cert_verify_callback(w->ctx, accept_any, NULL);
    SSL_CTX_set_session_cache_mode(w->ctx, o.resume ? SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL : SSL_SESS_CACHE_OFF);
    if (o.resume)
        SSL_CTX_sess_set_new_cb(w->ctx, new_ticket);
}

static int ascending(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv) {
    static const struct option options[] = {{"resume", no_argument, 0, 'r'},       {"conns", required_argument, 0, 'c'},
                                            {"threads", required_argument, 0, 't'}, {"seconds", required_argument, 0, 's'},
                                            {"count", required_argument, 0, 'n'},   {"group", required_argument, 0, 'g'},
                                            {"suite", required_argument, 0, 'u'},   {0}};
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;)
        switch (c) {
        case 'r': o.resume = 1; break;
        case 'c': o.conns = atoi(optarg); break;
        case 't': o.threads = atoi(optarg); break;
        case 's': o.seconds = atof(optarg); break;
        case 'n': o.count = atol(optarg); break;
        case 'g': o.group = optarg; break;
        case 'u': o.suite = optarg; break;
        default: return 64;
        }
    if (argc - optind != 2 || o.threads < 1 || o.threads > THREADS_MAX || o.conns < o.threads || o.conns > CONNS_MAX) {
        fprintf(stderr, "usage: handshakes [--resume] [--conns N] [--threads N] [--seconds S] [--count N] [--group G] "
                        "[--suite S] PORT PATH\n");
        return 64;
    }
    o.port = atoi(argv[optind]), o.path = argv[optind + 1];
    snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", o.path);
    static struct worker workers[THREADS_MAX], sum;
    int64_t start = now();
    end = start + (int64_t)(o.seconds * 1e6);
    for (int i = 0; i < o.threads; i++)
        prepare(&workers[i], i, o.conns / o.threads + (i < o.conns % o.threads));
    for (int i = 0; i < o.threads; i++)
        if (pthread_create(&workers[i].thread, NULL, work, &workers[i]))
            die("pthread_create");
    if (!(sum.us = calloc((size_t)TIMES_MAX * o.threads, sizeof *sum.us)))
        die("memory");
    const char *error = "";
    for (int i = 0; i < o.threads; i++) {
        struct worker *w = &workers[i];
        pthread_join(w->thread, NULL);
        sum.done += w->done, sum.failed += w->failed, sum.resumed += w->resumed, sum.full += w->full;
        sum.primed += w->primed, sum.late += w->late;
        memcpy(sum.us + sum.times, w->us, w->times * sizeof *w->us);
        sum.times += w->times;
        error = *error ? error : w->first_error;
    }
    qsort(sum.us, sum.times, sizeof *sum.us, ascending);
    printf("{\"done\":%ld,\"failed\":%ld,\"resumed\":%ld,\"full\":%ld,\"primed\":%ld,\"late\":%ld,\"secs\":%.3f,"
           "\"p50\":%u,\"p99\":%u,\"version\":\"%s\",\"group\":\"%s\",\"suite\":\"%s\",\"key\":\"%s\",\"error\":\"%s\"}\n",
           sum.done, sum.failed, sum.resumed, sum.full, sum.primed, sum.late, (now() - start) / 1e6,
           sum.us[sum.times / 2], sum.us[sum.times * 99 / 100], workers[0].version, workers[0].group, workers[0].suite,
           workers[0].key, error);
    return 0;
}

/*
 * What goes over a container's network: a client of its name server, and both ends of TCP connections, for the traffic benchmark.
 *
 *     cc -O2 -pthread -o traffic traffic.c
 *     traffic dns SERVER NAME SECONDS WINDOW           ask for NAME's address, WINDOW queries under way at any time
 *     traffic serve PORT                               answer the two below until killed
 *     traffic stream ADDRESS PORT SECONDS              send as much as goes over one connection
 *     traffic connect ADDRESS PORT SECONDS THREADS     open connections, each for one byte there and one back
 *
 * Each client prints one line of JSON; times of a query are in microseconds. IPv4 only.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { LOST_AFTER = 2, IDS = 65536, MOST_TIMES = 1 << 22, BUFFER = 1 << 17 };

static void must(long result, const char *step)
{
    if (result < 0) {
        fprintf(stderr, "traffic: %s: %s\n", step, strerror(errno));
        exit(1);
    }
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

static struct sockaddr_in place(const char *address, const char *port)
{
    struct sockaddr_in made = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};
    if (inet_pton(AF_INET, address, &made.sin_addr) != 1) {
        fprintf(stderr, "traffic: %s is no IPv4 address\n", address);
        exit(2);
    }
    return made;
}

/* Names */

static size_t write_query(uint8_t *out, const char *name)
{
    static const uint8_t head[12] = {0, 0, 1, 0, 0, 1}, tail[5] = {0, 0, 1, 0, 1};
    uint8_t *end = out + sizeof head;
    memcpy(out, head, sizeof head);
    while (*name) {
        size_t length = strcspn(name, ".");
        *end++ = length;
        end = mempcpy(end, name, length);
        name += length + (name[length] == '.');
    }
    end = mempcpy(end, tail, sizeof tail);
    return end - out;
}

static int by_size(const void *one, const void *other)
{
    uint32_t a = *(const uint32_t *)one, b = *(const uint32_t *)other;
    return (a > b) - (a < b);
}

static void dns(const char *server, const char *name, double seconds, int window)
{
    static double sent[IDS];
    static uint32_t times[MOST_TIMES];
    uint8_t query[512], answer[4096];
    struct sockaddr_in to = place(server, "53");
    size_t length = write_query(query, name);
    long asked = 0, answered = 0, failed = 0, under_way = 0;
    uint16_t id = 0;
    int sock = socket(AF_INET, SOCK_DGRAM, 0);
    double begin = now(), end = begin + seconds, last = begin;

    must(sock, "socket");
    must(connect(sock, (struct sockaddr *)&to, sizeof to), "connect");
    for (;;) {
        double time = now();
        while (time < end && under_way < window && sent[id] == 0) {
            query[0] = id >> 8;
            query[1] = id & 0xff;
            sent[id++] = time;
            must(send(sock, query, length, 0), "send");
            asked++;
            under_way++;
        }
        if (under_way == 0)
            break;
        struct pollfd ready = {.fd = sock, .events = POLLIN};
        must(poll(&ready, 1, 100), "poll");
        ssize_t got;
        while ((got = recv(sock, answer, sizeof answer, MSG_DONTWAIT)) >= 12) {
            uint16_t which = answer[0] << 8 | answer[1];
            if (sent[which] == 0)
                continue;
            last = now();
            if ((answer[3] & 0xf) != 0 || (answer[6] | answer[7]) == 0)
                failed++;
            if (answered < MOST_TIMES)
                times[answered] = (last - sent[which]) * 1e6;
            answered++;
            sent[which] = 0;
            under_way--;
        }
        for (int i = 0; now() > end + LOST_AFTER && i < IDS; i++)
            if (sent[i] != 0) {
                sent[i] = 0;
                failed++;
                under_way--;
            }
    }
    long kept = answered < MOST_TIMES ? answered : MOST_TIMES;
    qsort(times, kept, sizeof *times, by_size);
    printf("{\"queries\": %ld, \"failures\": %ld, \"seconds\": %.6f, \"p50\": %u, \"p99\": %u}\n", asked, failed, last - begin,
           kept ? times[kept / 2] : 0, kept ? times[kept * 99 / 100] : 0);
}

/* Connections */

static void *swallow(void *argument)
{
    int sock = (intptr_t)argument;
    char *buffer = malloc(BUFFER);
    uint64_t total = 0;
    ssize_t got;
    while (buffer != NULL && (got = recv(sock, buffer, BUFFER, 0)) > 0)
        total += got;
    send(sock, &total, sizeof total, MSG_NOSIGNAL);
    close(sock);
    free(buffer);
    return NULL;
}

static void serve(const char *port)
{
    struct sockaddr_in here = place("0.0.0.0", port);
    int one = 1, listening = socket(AF_INET, SOCK_STREAM, 0);

    must(listening, "socket");
    must(setsockopt(listening, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one), "SO_REUSEADDR");
    must(bind(listening, (struct sockaddr *)&here, sizeof here), "bind");
    must(listen(listening, 1024), "listen");
    puts("ready");
    fflush(stdout);
    for (;;) {
        int sock = accept(listening, NULL, NULL);
        char what;
        if (sock < 0)
            continue;
        if (recv(sock, &what, 1, 0) != 1 || what == 'c') {
            send(sock, &what, 1, MSG_NOSIGNAL);
            close(sock);
            continue;
        }
        pthread_t thread;
        must(-pthread_create(&thread, NULL, swallow, (void *)(intptr_t)sock), "thread");
        pthread_detach(thread);
    }
}

static void stream(const char *address, const char *port, double seconds)
{
    static char buffer[BUFFER] = "s";
    struct sockaddr_in to = place(address, port);
    int sock = socket(AF_INET, SOCK_STREAM, 0);
    uint64_t arrived = 0;

    must(sock, "socket");
    must(connect(sock, (struct sockaddr *)&to, sizeof to), "connect");
    double begin = now();
    while (now() < begin + seconds)
        must(send(sock, buffer, sizeof buffer, MSG_NOSIGNAL), "send");
    must(shutdown(sock, SHUT_WR), "shutdown");
    if (recv(sock, &arrived, sizeof arrived, MSG_WAITALL) != sizeof arrived)
        must(-1, "receive the count");
    printf("{\"bytes\": %llu, \"seconds\": %.6f}\n", (unsigned long long)arrived, now() - begin);
}

struct caller {
    struct sockaddr_in to;
    double end;
    long done, failed;
};

static void *call(void *argument)
{
    struct caller *self = argument;
    while (now() < self->end) {
        char byte = 'c';
        int sock = socket(AF_INET, SOCK_STREAM, 0);
        int good = connect(sock, (struct sockaddr *)&self->to, sizeof self->to) == 0 && send(sock, &byte, 1, MSG_NOSIGNAL) == 1 &&
                   recv(sock, &byte, 1, 0) == 1 && recv(sock, &byte, 1, 0) == 0;
        close(sock);
        self->done += good;
        self->failed += !good;
    }
    return NULL;
}

static void calls(const char *address, const char *port, double seconds, int threads)
{
    pthread_t running[threads];
    struct caller callers[threads];
    long done = 0, failed = 0;
    double begin = now();

    for (int i = 0; i < threads; i++) {
        callers[i] = (struct caller){.to = place(address, port), .end = begin + seconds};
        must(-pthread_create(&running[i], NULL, call, &callers[i]), "thread");
    }
    for (int i = 0; i < threads; i++) {
        pthread_join(running[i], NULL);
        done += callers[i].done;
        failed += callers[i].failed;
    }
    printf("{\"connections\": %ld, \"failures\": %ld, \"seconds\": %.6f}\n", done, failed, now() - begin);
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    if (strcmp(what, "dns") == 0 && argc == 6)
        dns(argv[2], argv[3], atof(argv[4]), atoi(argv[5]));
    else if (strcmp(what, "serve") == 0 && argc == 3)
        serve(argv[2]);
    else if (strcmp(what, "stream") == 0 && argc == 5)
        stream(argv[2], argv[3], atof(argv[4]));
    else if (strcmp(what, "connect") == 0 && argc == 6)
        calls(argv[2], argv[3], atof(argv[4]), atoi(argv[5]));
    else {
        fprintf(stderr, "traffic: dns, serve, stream or connect; see traffic.c\n");
        return 2;
    }
    return 0;
}

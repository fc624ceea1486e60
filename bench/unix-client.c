/*
 * HTTP over unix sockets with hardly anything done per request, for the inside of a VM, where whatever a client does is
 * measured along. Reads calls from a file, a line each, `<socket> <path> <body>`, and makes them in that order, each socket
 * on one connection, and each call a moment after the reply before: what processes still do after a reply is no part of the
 * next call's time. Prints the milliseconds of each, from the first byte sent to the last byte received. Ends with a message
 * when a reply is not a 200 with a Content-Length.
 */
#define _GNU_SOURCE
#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* Microseconds between calls. */
enum { PAUSE = 20 * 1000 };
enum { MAX_SOCKETS = 8, MAX_LINE = 4096, MAX_REPLY = 256 * 1024 };

static struct { char path[sizeof(((struct sockaddr_un *)0)->sun_path)]; int fd; } connections[MAX_SOCKETS];

static int connection_to(const char *path) {
    int n = 0;
    for (; n < MAX_SOCKETS && connections[n].path[0]; n++)
        if (!strcmp(connections[n].path, path)) return connections[n].fd;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (n == MAX_SOCKETS || strlen(path) >= sizeof address.sun_path) errx(1, "too many sockets, or a path too long");
    strcpy(address.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address)) err(1, "%s", path);
    strcpy(connections[n].path, path);
    return connections[n].fd = fd;
}

/* Takes one reply off a connection. */
static void receive(int fd, const char *call) {
    static char reply[MAX_REPLY + 1];
    size_t have = 0;
    for (;;) {
        ssize_t more = read(fd, reply + have, MAX_REPLY - have);
        if (more <= 0) errx(1, "%s: the connection ended, or the reply is too long", call);
        reply[have += more] = 0;
        const char *end = strstr(reply, "\r\n\r\n");
        if (!end) continue;
        const char *length = strcasestr(reply, "\r\nContent-Length:");
        if (strncmp(reply, "HTTP/1.1 200 ", 13) || !length || length > end) errx(1, "%s: %.200s", call, reply);
        if (have >= (size_t)(end + 4 - reply) + strtoul(length + 17, NULL, 10)) return;
    }
}

static double now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1e3 + now.tv_nsec / 1e6;
}

int main(int argc, char **argv) {
    FILE *calls = argc == 2 ? fopen(argv[1], "r") : NULL;
    if (!calls) errx(1, "usage: unix-client <file of calls>");
    char line[MAX_LINE], request[2 * MAX_LINE];
    while (fgets(line, sizeof line, calls)) {
        char *rest = line;
        line[strcspn(line, "\n")] = 0;
        const char *path = strsep(&rest, " "), *target = strsep(&rest, " ");
        if (!rest) errx(1, "a line is not a call");
        int fd = connection_to(path);
        int length = snprintf(request, sizeof request,
                              "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                              "Content-Length: %zu\r\n\r\n%s",
                              target, strlen(rest), rest);
        double before = now_ms();
        if (write(fd, request, length) != length) err(1, "%s", path);
        receive(fd, target);
        printf("%.3f\n", now_ms() - before);
        usleep(PAUSE);
    }
    return 0;
}

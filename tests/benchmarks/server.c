/* The benchmark server's loop: one thread, epoll, answers from memory. `server.py` compiles and starts it.

   server TEMPLATES HOST PORT

   TEMPLATES holds orders as pairs of texts, what stands before and after the number, each with its length
   as 4 bytes before it; the file, this program and their folder are removed once they are read. Where a
   client does not read what it is sent, its connection is closed. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <libgen.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define LONGEST_HEAD 16384
#define MOST_CONNECTIONS 4096
#define EVENTS 64

struct text { char *start; uint32_t length; };
struct order { struct text before, after; };
struct connection { uint32_t unread; char head[LONGEST_HEAD]; };

static struct order *orders;
static size_t order_count;
static struct connection *connections[MOST_CONNECTIONS];

static const char NOT_FOUND[] =
    "HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: 24\r\n\r\n"
    "{\"detail\": \"Not found.\"}";

static void fail(const char *what) { perror(what); exit(1); }

static int next_text(FILE *file, struct text *text) {
    if (fread(&text->length, sizeof text->length, 1, file) != 1) return 0;
    text->start = malloc(text->length + 1);
    return text->start && fread(text->start, 1, text->length, file) == text->length;
}

static void load(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file) fail(path);
    struct order order;
    while (next_text(file, &order.before) && next_text(file, &order.after)) {
        orders = realloc(orders, (order_count + 1) * sizeof *orders);
        orders[order_count++] = order;
    }
    fclose(file);
    remove(path);
    if (!order_count) { fprintf(stderr, "%s: no orders\n", path); exit(1); }
}

/* Write a percent-encoded text as it stands in a JSON string; `to` holds six times its length. */
static uint32_t to_json(const char *from, const char *end, char *to) {
    char *start = to;
    for (; from < end; from++) {
        unsigned code = (unsigned char)*from;
        if (*from == '%' && end - from > 2 && sscanf(from + 1, "%2x", &code) == 1) from += 2;
        if (code < 0x20) to += sprintf(to, "\\u%04x", code);
        else {
            if (code == '"' || code == '\\') *to++ = '\\';
            *to++ = (char)code;
        }
    }
    return (uint32_t)(to - start);
}

/* As zlib's: a number gets the same order from every benchmark server. */
static uint32_t crc32(const char *start, size_t length) {
    uint32_t crc = 0xffffffffu;
    while (length--) {
        crc ^= (unsigned char)*start++;
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (0xedb88320u & -(crc & 1));
    }
    return ~crc;
}

static int send_all(int socket, struct iovec *parts, int count) {
    size_t length = 0;
    for (int part = 0; part < count; part++) length += parts[part].iov_len;
    return writev(socket, parts, count) == (ssize_t)length;
}

/* Answer the request whose head begins here; its target's last segment is the order number. */
static int answer(int socket, const char *head, const char *end) {
    const char *target = memchr(head, ' ', end - head), *target_end, *number;
    if (!target++ || !(target_end = memchr(target, ' ', end - target))) return 0;
    if (!(number = memrchr(target, '/', target_end - target))) return 0;
    number++;
    if (target_end - number >= 7 && !memcmp(number, "missing", 7)) {
        struct iovec refusal = {(char *)NOT_FOUND, sizeof NOT_FOUND - 1};
        return send_all(socket, &refusal, 1);
    }
    static char text[6 * LONGEST_HEAD], top[160];
    uint32_t length = to_json(number, target_end, text);
    struct order *order = &orders[crc32(number, (size_t)(target_end - number)) % order_count];
    int top_length = sprintf(top, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %u\r\n\r\n",
                             order->before.length + length + order->after.length);
    struct iovec parts[] = {{top, (size_t)top_length}, {order->before.start, order->before.length},
                            {text, length}, {order->after.start, order->after.length}};
    return send_all(socket, parts, 4);
}

/* Read what came and answer every whole head in it; return 0 where the connection is over. */
static int serve(int socket) {
    struct connection *connection = connections[socket];
    ssize_t got = read(socket, connection->head + connection->unread, LONGEST_HEAD - connection->unread);
    if (got <= 0) return got < 0 && errno == EAGAIN;
    char *head = connection->head, *end = head + connection->unread + got, *blank;
    while ((blank = memmem(head, end - head, "\r\n\r\n", 4))) {
        if (!answer(socket, head, blank)) return 0;
        head = blank + 4;
    }
    connection->unread = (uint32_t)(end - head);
    memmove(connection->head, head, connection->unread);
    return connection->unread < LONGEST_HEAD;
}

static void watch(int poll, int socket) {
    struct epoll_event event = {.events = EPOLLIN, .data.fd = socket};
    if (epoll_ctl(poll, EPOLL_CTL_ADD, socket, &event)) fail("epoll_ctl");
}

static void accept_all(int poll, int listener) {
    int socket, yes = 1;
    while ((socket = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        if (socket >= MOST_CONNECTIONS || !(connections[socket] = calloc(1, sizeof(struct connection)))) {
            close(socket);
            continue;
        }
        setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        watch(poll, socket);
    }
}

static void hang_up(int socket) {
    free(connections[socket]);
    connections[socket] = NULL;
    close(socket);
}

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    load(argv[1]);
    remove(argv[0]);
    rmdir(dirname(argv[0]));
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), yes = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[3]))};
    socklen_t size = sizeof address;
    if (inet_pton(AF_INET, argv[2], &address.sin_addr) != 1 || bind(listener, (struct sockaddr *)&address, size) ||
        listen(listener, 1024) || getsockname(listener, (struct sockaddr *)&address, &size)) fail(argv[2]);
    printf("http://%s:%u\nC\n", argv[2], ntohs(address.sin_port));
    fflush(stdout);
    int poll = epoll_create1(0);
    watch(poll, listener);
    for (;;) {
        struct epoll_event events[EVENTS];
        int count = epoll_wait(poll, events, EVENTS, -1);
        for (int at = 0; at < count; at++) {
            int socket = events[at].data.fd;
            if (socket == listener) accept_all(poll, listener);
            else if (!serve(socket)) hang_up(socket);
        }
    }
}

/* HTTP/1.1 requests as they arrive, and replies as they go out. Bodies are digested, not kept, unless the
 * protocol wants to read them (XML, JSON). */
#ifndef HTTP_H
#define HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "crc.h"

typedef struct {
    char *at;
    size_t size, room;
} Buffer;

void buffer_add(Buffer *buffer, const void *bytes, size_t n);
void buffer_print(Buffer *buffer, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* A chunked body (RFC 9112, 7.1), or S3's aws-chunked one, which has the same form. */
typedef struct {
    enum { CHUNK_SIZE, CHUNK_DATA, CHUNK_END, CHUNK_TRAILER, CHUNK_DONE } state;
    uint64_t left;
    char line[512];
    size_t line_size;
} Chunks;

enum { HEAD_ROOM = 32 * 1024, HEADERS = 64 };

typedef struct {
    bool secure; /* came over TLS */
    char head[HEAD_ROOM]; /* the request's head; each word and value in it ends with a zero */
    size_t head_size;
    const char *method, *path, *query; /* the path is percent-decoded, the query is not */
    struct { const char *name, *value; } headers[HEADERS];
    int header_count;

    uint64_t left; /* bytes of an unchunked body still to come */
    bool chunked, aws_chunked;
    Chunks outer, inner;
    char trailer[512]; /* the last line of an aws-chunked body's trailer, "name:value" */

    /* Set by the protocol once the head is there. */
    unsigned checksums;
    bool keep;

    Digest content;
    Buffer kept;
} Request;

/* Ready for the next one. */
void request_clear(Request *request);

/* Take bytes of the head. Returns how many belong to it; `*whole` once the empty line was there; -1: no HTTP. */
long request_head(Request *request, const char *bytes, size_t n, bool *whole);

/* Take bytes of the body. Returns how many belong to it, `*whole` once all of it was there; -1: bad framing. */
long request_body(Request *request, const char *bytes, size_t n, bool *whole);

/* Whether there is a body at all. */
bool request_has_body(const Request *request);

/* The header's value, or NULL. `name` in lower case. */
const char *header(const Request *request, const char *name);

/* Whether the query has this parameter; its value goes, percent-decoded, into `value` unless that is NULL. */
bool parameter(const Request *request, const char *name, char *value, size_t room);

/* Each header that begins with `prefix`, as lines of a reply. The caller frees it. */
char *headers_beginning(const Request *request, const char *prefix);

/* A reply: `fields` are header lines. Nothing but the head goes out for a HEAD request, with `length` in it. */
typedef struct {
    int status;
    uint64_t length;
    Buffer fields, body;
} Reply;

void reply_write(const Request *request, const Reply *reply, Buffer *out);

/* Base64 of the last `n` bytes of a number, the highest first or (`little`) last. */
const char *base64_of(uint64_t value, int n, bool little, char text[16]);

/* The value that base64 of `n` bytes has, the highest first; false if it is none. */
bool base64_value(const char *text, int n, uint64_t *value);

#endif

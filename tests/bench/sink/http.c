#include "http.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const char ALPHABET[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static void make_room(Buffer *buffer, size_t n) {
    if (buffer->size + n <= buffer->room) return;
    while (buffer->room < buffer->size + n) buffer->room = buffer->room ? 2 * buffer->room : 4096;
    buffer->at = realloc(buffer->at, buffer->room);
    if (!buffer->at) abort();
}

void buffer_add(Buffer *buffer, const void *bytes, size_t n) {
    make_room(buffer, n);
    if (n) memcpy(buffer->at + buffer->size, bytes, n);
    buffer->size += n;
}

void buffer_print(Buffer *buffer, const char *format, ...) {
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int n = vsnprintf(NULL, 0, format, arguments);
    make_room(buffer, (size_t)n + 1);
    vsnprintf(buffer->at + buffer->size, (size_t)n + 1, format, again);
    buffer->size += (size_t)n;
    va_end(again);
    va_end(arguments);
}

void request_clear(Request *request) {
    Buffer kept = request->kept;
    size_t head = offsetof(Request, head_size);
    memset((char *)request + head, 0, sizeof *request - head);
    kept.size = 0;
    request->kept = kept;
}

static int hex(char digit) {
    return isdigit((unsigned char)digit)    ? digit - '0'
           : isxdigit((unsigned char)digit) ? (digit | 32) - 'a' + 10
                                            : -1;
}

/* In place: what is decoded is never longer. */
static void percent_decode(char *text) {
    char *to = text;
    for (; *text; text++) {
        if (*text == '%' && hex(text[1]) >= 0 && hex(text[2]) >= 0) {
            *to++ = (char)(hex(text[1]) << 4 | hex(text[2]));
            text += 2;
        } else {
            *to++ = *text;
        }
    }
    *to = 0;
}

/* Cut the line at `*at` off and go to the next one. */
static char *next_line(char **at) {
    char *line = *at, *end = strstr(line, "\r\n");
    *end = 0;
    *at = end + 2;
    return line;
}

static bool understood(Request *request) {
    char *at = request->head, *line = next_line(&at);
    char *target = strchr(line, ' '), *version = target ? strchr(target + 1, ' ') : NULL;
    if (!version) return false;
    *target++ = *version++ = 0;
    request->method = line;
    char *query = strchr(target, '?');
    if (query) *query++ = 0;
    percent_decode(target);
    request->path = target;
    request->query = query ? query : "";
    while (*(line = next_line(&at))) {
        char *colon = strchr(line, ':');
        if (!colon || request->header_count == HEADERS) return false;
        *colon++ = 0;
        for (char *letter = line; *letter; letter++) *letter = (char)tolower((unsigned char)*letter);
        request->headers[request->header_count].name = line;
        request->headers[request->header_count++].value = colon + strspn(colon, " \t");
    }
    const char *length = header(request, "content-length"), *coding = header(request, "transfer-encoding");
    const char *hash = header(request, "x-amz-content-sha256");
    request->left = length ? strtoull(length, NULL, 10) : 0;
    request->chunked = coding && strcasestr(coding, "chunked");
    request->aws_chunked = hash && !strncmp(hash, "STREAMING-", 10);
    return true;
}

long request_head(Request *request, const char *bytes, size_t n, bool *whole) {
    size_t had = request->head_size, room = HEAD_ROOM - 1 - had;
    size_t taken = n < room ? n : room;
    memcpy(request->head + had, bytes, taken);
    request->head[had + taken] = 0;
    char *end = strstr(request->head + (had > 3 ? had - 3 : 0), "\r\n\r\n");
    *whole = end != NULL;
    if (!end) {
        request->head_size += taken;
        return taken == room ? -1 : (long)taken;
    }
    request->head_size = (size_t)(end + 4 - request->head);
    request->head[request->head_size] = 0;
    return understood(request) ? (long)(request->head_size - had) : -1;
}

bool request_has_body(const Request *request) {
    return request->chunked || request->left;
}

static void content(Request *request, const char *bytes, size_t n) {
    if (request->keep) buffer_add(&request->kept, bytes, n);
    crc_update(&request->content, request->checksums, bytes, n);
}

static bool inner_layer(Request *request, const char *bytes, size_t n);

/* One layer of chunks; `inner`: this is the aws-chunked one. Returns the bytes taken, -1: bad framing. */
static long chunks_feed(Request *request, Chunks *chunks, bool inner, const char *bytes, size_t n) {
    size_t at = 0;
    while (at < n && chunks->state != CHUNK_DONE) {
        if (chunks->state == CHUNK_DATA) {
            size_t piece = n - at < chunks->left ? n - at : (size_t)chunks->left;
            if (inner)
                content(request, bytes + at, piece);
            else if (!inner_layer(request, bytes + at, piece))
                return -1;
            at += piece;
            if (!(chunks->left -= piece)) chunks->state = CHUNK_END;
            continue;
        }
        char byte = bytes[at++];
        if (byte != '\n') {
            if (chunks->line_size == sizeof chunks->line - 1) return -1;
            chunks->line[chunks->line_size++] = byte;
            continue;
        }
        size_t size = chunks->line_size && chunks->line[chunks->line_size - 1] == '\r' ? chunks->line_size - 1
                                                                                       : chunks->line_size;
        chunks->line[size] = 0;
        chunks->line_size = 0;
        if (chunks->state == CHUNK_END) {
            if (size) return -1;
            chunks->state = CHUNK_SIZE;
        } else if (chunks->state == CHUNK_SIZE) {
            char *end;
            chunks->left = strtoull(chunks->line, &end, 16);
            if (end == chunks->line) return -1;
            chunks->state = chunks->left ? CHUNK_DATA : CHUNK_TRAILER;
        } else if (!size) {
            chunks->state = CHUNK_DONE;
        } else if (inner) {
            memcpy(request->trailer, chunks->line, sizeof request->trailer);
        }
    }
    return (long)at;
}

static bool inner_layer(Request *request, const char *bytes, size_t n) {
    if (!request->aws_chunked) {
        content(request, bytes, n);
        return true;
    }
    return chunks_feed(request, &request->inner, true, bytes, n) >= 0;
}

long request_body(Request *request, const char *bytes, size_t n, bool *whole) {
    if (request->chunked) {
        long taken = chunks_feed(request, &request->outer, false, bytes, n);
        *whole = request->outer.state == CHUNK_DONE;
        return taken;
    }
    size_t taken = n < request->left ? n : (size_t)request->left;
    request->left -= taken;
    *whole = !request->left;
    return inner_layer(request, bytes, taken) ? (long)taken : -1;
}

const char *header(const Request *request, const char *name) {
    for (int i = 0; i < request->header_count; i++)
        if (!strcmp(request->headers[i].name, name)) return request->headers[i].value;
    return NULL;
}

bool parameter(const Request *request, const char *name, char *value, size_t room) {
    size_t size = strlen(name);
    for (const char *at = request->query; at && *at; at = strchr(at, '&') ? strchr(at, '&') + 1 : NULL) {
        size_t whole = strcspn(at, "&");
        if (strncmp(at, name, size) || (whole > size && at[size] != '=')) continue;
        if (value) {
            snprintf(value, room, "%.*s", whole > size ? (int)(whole - size - 1) : 0, at + size + 1);
            percent_decode(value);
        }
        return true;
    }
    return false;
}

char *headers_beginning(const Request *request, const char *prefix) {
    Buffer lines = {0};
    buffer_add(&lines, "", 0);
    for (int i = 0; i < request->header_count; i++)
        if (!strncmp(request->headers[i].name, prefix, strlen(prefix)))
            buffer_print(&lines, "%s: %s\r\n", request->headers[i].name, request->headers[i].value);
    buffer_add(&lines, "", 1);
    return lines.at;
}

static const char *reason(int status) {
    switch (status) {
    case 200: return "OK";
    case 201: return "Created";
    case 204: return "No Content";
    case 308: return "Resume Incomplete";
    case 400: return "Bad Request";
    case 404: return "Not Found";
    case 412: return "Precondition Failed";
    default: return "Unknown";
    }
}

void reply_write(const Request *request, const Reply *reply, Buffer *out) {
    bool head = !strcmp(request->method, "HEAD");
    buffer_print(out, "HTTP/1.1 %d %s\r\nServer: sink\r\n", reply->status, reason(reply->status));
    if (reply->status != 204)
        buffer_print(out, "Content-Length: %llu\r\n",
                     (unsigned long long)(head ? reply->length : reply->body.size));
    buffer_add(out, reply->fields.at, reply->fields.size);
    buffer_add(out, "\r\n", 2);
    if (!head) buffer_add(out, reply->body.at, reply->body.size);
}

const char *base64_of(uint64_t value, int n, bool little, char text[16]) {
    uint8_t bytes[9] = {0};
    for (int i = 0; i < n; i++) bytes[little ? i : n - 1 - i] = (uint8_t)(value >> (8 * i));
    char *to = text;
    for (int i = 0; i < n; i += 3) {
        uint32_t word = (uint32_t)bytes[i] << 16 | (uint32_t)(i + 1 < n ? bytes[i + 1] : 0) << 8 |
                        (uint32_t)(i + 2 < n ? bytes[i + 2] : 0);
        *to++ = ALPHABET[word >> 18];
        *to++ = ALPHABET[word >> 12 & 63];
        *to++ = i + 1 < n ? ALPHABET[word >> 6 & 63] : '=';
        *to++ = i + 2 < n ? ALPHABET[word & 63] : '=';
    }
    *to = 0;
    return text;
}

bool base64_value(const char *text, int n, uint64_t *value) {
    unsigned __int128 bits = 0;
    int digits = 0;
    for (; *text && *text != '='; text++, digits++) {
        const char *digit = strchr(ALPHABET, *text);
        if (!digit || digits == 11) return false;
        bits = bits << 6 | (unsigned)(digit - ALPHABET);
    }
    if (digits != (8 * n + 5) / 6) return false;
    *value = (uint64_t)(bits >> (6 * digits - 8 * n));
    return true;
}

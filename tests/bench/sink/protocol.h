/* The three protocols. Each is two steps: what to do with a request's body, and what to reply once it is
 * there. Which one a request speaks shows in its head. */
#ifndef PROTOCOL_H
#define PROTOCOL_H

#include "store.h"

#define LAST_MODIFIED "Last-Modified: Fri, 20 Nov 2026 12:00:00 GMT\r\n"

typedef struct {
    bool (*speaks)(const Request *request);
    void (*begin)(Request *request);
    void (*answer)(Request *request, Reply *reply);
} Protocol;

extern const Protocol azure, gcs, s3;

#endif

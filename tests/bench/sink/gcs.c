/* Cloud Storage's JSON API, as far as objects are written and looked at. */
#include "protocol.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char UPLOAD[] = "/upload/storage/v1/b/", PLAIN[] = "/storage/v1/b/";

/* The text behind `"name":` of a JSON object that this endpoint's clients write; NULL if there is none. */
static char *member(char *json, const char *name) {
    char quoted[32];
    snprintf(quoted, sizeof quoted, "\"%s\"", name);
    char *at = strstr(json, quoted);
    if (!at) return NULL;
    at += strlen(quoted);
    return at + strspn(at, " :\t\r\n");
}

static bool text_member(char *json, const char *name, char *text, size_t room) {
    const char *at = member(json, name);
    size_t size = 0;
    if (!at || *at++ != '"') return false;
    for (; *at && *at != '"' && size + 1 < room; at++) {
        if (*at == '\\' && at[1]) at++;
        text[size++] = *at;
    }
    text[size] = 0;
    return true;
}

/* An object without objects in it, as it stands there. */
static char *object_member(char *json, const char *name) {
    char *at = member(json, name), *end = at && *at == '{' ? strchr(at, '}') : NULL;
    return end ? strndup(at, (size_t)(end + 1 - at)) : strdup("{}");
}

static void refuse(Reply *reply, int status, const char *reason) {
    reply->status = status;
    buffer_print(&reply->fields, "Content-Type: application/json\r\n");
    buffer_print(&reply->body, "{\"error\":{\"code\":%d,\"message\":\"%s\",\"errors\":[{\"reason\":\"%s\"}]}}",
                 status, reason, reason);
}

/* An object's name in the store: BUCKET/o/NAME. */
static void tell(Reply *reply, const Item *object) {
    const char *name = strstr(object->name, "/o/");
    char text[16];
    buffer_print(&reply->fields, "Content-Type: application/json\r\n");
    buffer_print(&reply->body,
                 "{\"kind\":\"storage#object\",\"bucket\":\"%.*s\",\"name\":\"%s\",\"size\":\"%llu\","
                 "\"generation\":\"%llu\",\"metageneration\":\"1\",\"etag\":\"%s\",\"crc32c\":\"%s\","
                 "\"metadata\":%s}",
                 (int)(name - object->name), object->name, name + 3, (unsigned long long)object->digest.size,
                 (unsigned long long)object->generation, object->etag,
                 base64_of(object->digest.crc32c, 4, false, text), object->metadata);
}

/* Make it visible, unless it is not what its writer says or the key is taken. */
static void finish(const Request *request, Reply *reply, const char *name, char *metadata, Digest digest,
                   const char *claimed) {
    uint64_t value;
    char condition[32];
    const char *hash = header(request, "x-goog-hash");
    if (hash && !strncmp(hash, "crc32c=", 7)) claimed = hash + 7;
    if (claimed && *claimed && (!base64_value(claimed, 4, &value) || value != digest.crc32c)) {
        free(metadata);
        return refuse(reply, 400, "invalid");
    }
    if (parameter(request, "ifGenerationMatch", condition, sizeof condition) && !strcmp(condition, "0") &&
        store_find(&objects, name)) {
        free(metadata);
        return refuse(reply, 412, "conditionNotMet");
    }
    Item *object = store_make(&objects, name);
    object->metadata = metadata;
    object->digest = digest;
    fresh_etag(object->etag);
    tell(reply, object);
}

static void name_of(const Request *request, char *json, char *name, size_t room) {
    char object[1100] = "";
    if (!text_member(json, "name", object, sizeof object)) parameter(request, "name", object, sizeof object);
    const char *bucket = request->path + sizeof UPLOAD - 1;
    snprintf(name, room, "%.*s/o/%s", (int)strcspn(bucket, "/"), bucket, object);
}

/* multipart/related: the JSON, then the content, each with a head of its own. */
static void put_related(Request *request, Reply *reply) {
    Buffer *body = &request->kept;
    buffer_add(body, "", 1);
    char *json = strstr(body->at, "\r\n\r\n"), *content = json ? strstr(json + 4, "\r\n\r\n") : NULL;
    char *end = body->at + body->size - 5;
    while (content && end > content && memcmp(end, "\r\n--", 4)) end--;
    if (!content || end < content + 4) return refuse(reply, 400, "badRequest");
    *content = 0, content += 4;
    char name[1400], claimed[32] = "";
    name_of(request, json, name, sizeof name);
    text_member(json, "crc32c", claimed, sizeof claimed);
    Digest digest = {0};
    crc_update(&digest, CRC32C, content, (size_t)(end - content));
    finish(request, reply, name, object_member(json, "metadata"), digest, claimed);
}

static void open_session(Request *request, Reply *reply) {
    char id[48], name[1400];
    buffer_add(&request->kept, "", 1);
    name_of(request, request->kept.at, name, sizeof name);
    fresh_etag(id);
    Item *session = store_make(&uploads, id);
    session->key = strdup(name);
    session->metadata = object_member(request->kept.at, "metadata");
    buffer_print(&reply->fields, "Location: http%s://%s%s?%s&upload_id=%s\r\n", request->secure ? "s" : "",
                 header(request, "host"), request->path, request->query, id);
}

/* A chunk, or the question how much is there: `Content-Range: bytes FIRST-LAST/TOTAL`, each may be `*`. */
static void put_chunk(Request *request, Reply *reply, Item *session) {
    const char *range = header(request, "content-range");
    const char *slash = range ? strchr(range, '/') : NULL;
    uint64_t first = range ? strtoull(range + strcspn(range, "0123456789*"), NULL, 10) : 0;
    uint64_t total = slash && slash[1] != '*' ? strtoull(slash + 1, NULL, 10) : UINT64_MAX;
    if (!slash) total = request->content.size;
    if (request->content.size) {
        if (first != session->digest.size) return refuse(reply, 400, "badRequest");
        session->digest = crc_joined(session->digest, request->content);
    }
    if (session->digest.size == total) {
        finish(request, reply, session->key, session->metadata, session->digest, NULL);
        session->metadata = NULL;
        return store_drop(&uploads, session);
    }
    reply->status = 308;
    if (session->digest.size)
        buffer_print(&reply->fields, "Range: bytes=0-%llu\r\n", (unsigned long long)session->digest.size - 1);
}

static void show(const Request *request, Reply *reply) {
    const char *name = request->path + sizeof PLAIN - 1;
    Item *object = store_find(&objects, name);
    if (!strstr(name, "/o/"))
        buffer_print(&reply->body, "{\"kind\":\"storage#bucket\",\"name\":\"%s\"}", name);
    else if (!object)
        refuse(reply, 404, "notFound");
    else
        tell(reply, object);
}

static bool speaks(const Request *request) {
    return !strncmp(request->path, UPLOAD, sizeof UPLOAD - 1) || !strncmp(request->path, PLAIN, sizeof PLAIN - 1);
}

static void begin(Request *request) {
    request->keep = !strcmp(request->method, "POST");
    request->checksums = request->keep ? 0 : CRC32C;
}

static void answer(Request *request, Reply *reply) {
    char type[32] = "", id[64];
    parameter(request, "uploadType", type, sizeof type);
    if (parameter(request, "upload_id", id, sizeof id)) {
        Item *session = store_find(&uploads, id);
        if (!session)
            refuse(reply, 404, "notFound");
        else if (!strcmp(request->method, "DELETE"))
            reply->status = 499, store_drop(&uploads, session);
        else
            put_chunk(request, reply, session);
    } else if (!strcmp(type, "multipart"))
        put_related(request, reply);
    else if (!strcmp(type, "resumable"))
        open_session(request, reply);
    else
        show(request, reply);
}

const Protocol gcs = {speaks, begin, answer};

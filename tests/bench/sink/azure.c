/* Azure Blob Storage's REST API, as far as block blobs are written and looked at. */
#include "protocol.h"

#include <stdlib.h>
#include <string.h>

static void refuse(Reply *reply, int status, const char *code) {
    reply->status = status;
    buffer_print(&reply->fields, "x-ms-error-code: %s\r\n", code);
}

/* Azure writes the same CRC-64 as S3 with the lowest byte first. */
static bool intact(const Request *request) {
    const char *claimed = header(request, "x-ms-content-crc64");
    uint64_t value;
    return !claimed ||
           (base64_value(claimed, 8, &value) && __builtin_bswap64(value) == request->content.crc64nvme);
}

static void tell_written(const Request *request, Reply *reply) {
    char text[16];
    const char *md5 = header(request, "content-md5");
    reply->status = 201;
    buffer_print(&reply->fields, "x-ms-content-crc64: %s\r\nx-ms-request-server-encrypted: true\r\n",
                 base64_of(request->content.crc64nvme, 8, true, text));
    if (md5) buffer_print(&reply->fields, "Content-MD5: %s\r\n", md5);
}

static void stage(Request *request, Reply *reply) {
    char id[256];
    if (!parameter(request, "blockid", id, sizeof id)) return refuse(reply, 400, "InvalidBlockId");
    if (!intact(request)) return refuse(reply, 400, "Crc64Mismatch");
    Item *staged = store_find(&uploads, request->path);
    if (!staged) staged = store_make(&uploads, request->path);
    item_part(staged, 0, id)->digest = request->content;
    tell_written(request, reply);
}

static Item *fresh_blob(const Request *request, Reply *reply) {
    const char *condition = header(request, "if-none-match");
    if (condition && !strcmp(condition, "*") && store_find(&objects, request->path)) {
        refuse(reply, 409, "BlobAlreadyExists");
        return NULL;
    }
    Item *blob = store_make(&objects, request->path);
    blob->metadata = headers_beginning(request, "x-ms-meta-");
    fresh_etag(blob->etag);
    buffer_print(&reply->fields, "ETag: \"%s\"\r\n" LAST_MODIFIED, blob->etag);
    return blob;
}

static void put_blob(Request *request, Reply *reply) {
    if (!intact(request)) return refuse(reply, 400, "Crc64Mismatch");
    Item *blob = fresh_blob(request, reply);
    if (!blob) return;
    blob->digest = request->content;
    tell_written(request, reply);
}

/* <Latest>ID</Latest>, <Uncommitted>ID</Uncommitted>, ...: the innermost elements, in order. */
static void commit(Request *request, Reply *reply) {
    Item *staged = store_find(&uploads, request->path);
    buffer_add(&request->kept, "", 1);
    Item *blob = fresh_blob(request, reply);
    if (!blob) return;
    char *at = request->kept.at;
    for (char *close; (at = strchr(at, '>')) && (close = strchr(at, '<')); at = close) {
        at += 1 + strspn(at + 1, " \t\r\n");
        if (at >= close) continue;
        *close++ = 0;
        Part *part = NULL;
        for (uint32_t i = 0; staged && !part && i < staged->part_count; i++)
            if (!strcmp(staged->parts[i].id, at)) part = &staged->parts[i];
        if (!part) {
            store_drop(&objects, blob);
            reply->fields.size = 0;
            return refuse(reply, 400, "InvalidBlockList");
        }
        item_part(blob, blob->part_count, at)->digest = part->digest;
    }
    item_join(blob);
    if (staged) store_drop(&uploads, staged);
    reply->status = 201;
}

static void list_of(Reply *reply, const char *element, const Item *item) {
    buffer_print(&reply->body, "<%s>", element);
    for (uint32_t i = 0; item && i < item->part_count; i++)
        buffer_print(&reply->body, "<Block><Name>%s</Name><Size>%llu</Size></Block>", item->parts[i].id,
                     (unsigned long long)item->parts[i].digest.size);
    buffer_print(&reply->body, "</%s>", element);
}

static void list_blocks(const Request *request, Reply *reply) {
    Item *blob = store_find(&objects, request->path), *staged = store_find(&uploads, request->path);
    if (!blob && !staged) return refuse(reply, 404, "BlobNotFound");
    buffer_print(&reply->fields, "Content-Type: application/xml\r\n");
    buffer_print(&reply->body, "<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>");
    list_of(reply, "CommittedBlocks", blob);
    list_of(reply, "UncommittedBlocks", staged);
    buffer_print(&reply->body, "</BlockList>");
}

static void show(const Request *request, Reply *reply) {
    Item *blob = store_find(&objects, request->path);
    if (!blob) return refuse(reply, 404, "BlobNotFound");
    reply->length = blob->digest.size;
    buffer_print(&reply->fields, "ETag: \"%s\"\r\nx-ms-blob-type: BlockBlob\r\n%s" LAST_MODIFIED, blob->etag,
                 blob->metadata);
}

static bool speaks(const Request *request) {
    return header(request, "x-ms-version") != NULL;
}

static bool asks_for(const Request *request, const char *component) {
    char value[32] = "";
    return parameter(request, "comp", value, sizeof value) && !strcmp(value, component);
}

static void begin(Request *request) {
    request->keep = asks_for(request, "blocklist");
    request->checksums = request->keep ? 0 : CRC64NVME;
}

static void answer(Request *request, Reply *reply) {
    bool put = !strcmp(request->method, "PUT");
    buffer_print(&reply->fields, "x-ms-version: %s\r\n", header(request, "x-ms-version"));
    if (parameter(request, "restype", NULL, 0))
        reply->status = put ? 201 : 200; /* the container: it is there */
    else if (put && asks_for(request, "block"))
        stage(request, reply);
    else if (put && asks_for(request, "blocklist"))
        commit(request, reply);
    else if (put)
        put_blob(request, reply);
    else if (asks_for(request, "blocklist"))
        list_blocks(request, reply);
    else
        show(request, reply);
}

const Protocol azure = {speaks, begin, answer};

/* S3's REST API, path-style, as far as uploads need it. The XML API of Cloud Storage is its twin; Google's own
 * clients want to hear a CRC-32C from it. */
#include "protocol.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    unsigned flag;
    const char *field, *element; /* in headers, in XML */
    int bytes;
} Algorithm;

static const Algorithm ALGORITHMS[] = {
    {CRC64NVME, "crc64nvme", "CRC64NVME", 8}, {CRC32C, "crc32c", "CRC32C", 4}, {CRC32, "crc32", "CRC32", 4}};

static uint64_t value_of(const Digest *digest, unsigned flag) {
    return flag == CRC64NVME ? digest->crc64nvme : flag == CRC32C ? digest->crc32c : digest->crc32;
}

static const Algorithm *algorithm_of(unsigned flag) {
    for (size_t i = 0; i < sizeof ALGORITHMS / sizeof *ALGORITHMS; i++)
        if (ALGORITHMS[i].flag == flag) return &ALGORITHMS[i];
    return NULL;
}

static const char *in_header(const Request *request, const Algorithm *algorithm) {
    char name[40];
    snprintf(name, sizeof name, "x-amz-checksum-%s", algorithm->field);
    return header(request, name);
}

/* The algorithm that a request names: to be calculated, or announced by a trailer or a value. Amazon
 * calculates CRC-64/NVME where none is named. */
static unsigned wanted(const Request *request) {
    if (header(request, "x-goog-api-client")) return CRC32C;
    const char *named = header(request, "x-amz-checksum-algorithm");
    if (!named) named = header(request, "x-amz-sdk-checksum-algorithm");
    const char *trailer = header(request, "x-amz-trailer");
    for (size_t i = 0; i < sizeof ALGORITHMS / sizeof *ALGORITHMS; i++) {
        const Algorithm *one = &ALGORITHMS[i];
        if (named ? !strcmp(named, one->element)
                  : in_header(request, one) || (trailer && !strcmp(trailer + strlen("x-amz-checksum-"), one->field)))
            return one->flag;
    }
    return named || trailer ? 0 : CRC64NVME;
}

static void refuse(Reply *reply, int status, const char *code) {
    reply->status = status;
    buffer_print(&reply->body, "<Error><Code>%s</Code><Message>%s</Message></Error>", code, code);
    buffer_print(&reply->fields, "Content-Type: application/xml\r\n");
}

/* Whether the checksum that came with the bytes, in the head or behind them, is theirs. */
static bool intact(const Request *request, const Digest *digest, unsigned flag) {
    const Algorithm *algorithm = algorithm_of(flag);
    if (!algorithm) return true;
    const char *claimed = in_header(request, algorithm);
    char name[40];
    int size = snprintf(name, sizeof name, "x-amz-checksum-%s:", algorithm->field);
    if (!claimed && !strncmp(request->trailer, name, (size_t)size)) claimed = request->trailer + size;
    uint64_t value;
    return !claimed || (base64_value(claimed, algorithm->bytes, &value) && value == value_of(digest, flag));
}

static void tell_checksum(Buffer *fields, const Digest *digest, unsigned flag, bool whole) {
    const Algorithm *algorithm = algorithm_of(flag);
    char text[16];
    if (!algorithm) return;
    buffer_print(fields, "x-amz-checksum-%s: %s\r\n", algorithm->field,
                 base64_of(value_of(digest, flag), algorithm->bytes, false, text));
    if (whole) buffer_print(fields, "x-amz-checksum-type: FULL_OBJECT\r\n");
    if (flag == CRC32C) buffer_print(fields, "x-goog-hash: crc32c=%s\r\n", text);
}

/* The MD5 that the client vouches for is the tag, as Amazon's would be. It is believed, not calculated:
 * nothing slows a server down as MD5 does. */
static void tag(const Request *request, char etag[40]) {
    const char *claimed = header(request, "content-md5");
    uint8_t digest[24];
    if (!claimed || strlen(claimed) != 24 ||
        EVP_DecodeBlock(digest, (const uint8_t *)claimed, 24) < 16) {
        fresh_etag(etag);
        return;
    }
    for (int i = 0; i < 16; i++) snprintf(etag + 2 * i, 3, "%02x", digest[i]);
}

/* Of a finished upload: the MD5 of its parts' MD5s, if they are such, and their number. */
static void tag_joined(Item *item) {
    uint8_t *all = malloc(16 * (size_t)item->part_count + 1), digest[EVP_MAX_MD_SIZE];
    bool md5 = true;
    for (uint32_t i = 0; i < item->part_count; i++)
        for (int byte = 0; md5 && byte < 16; byte++)
            md5 = sscanf(item->parts[i].etag + 2 * byte, "%2hhx", &all[16 * i + (uint32_t)byte]) == 1;
    if (md5 && EVP_Digest(all, 16 * (size_t)item->part_count, digest, NULL, EVP_md5(), NULL))
        for (int i = 0; i < 16; i++) snprintf(item->etag + 2 * i, 3, "%02x", digest[i]);
    else
        fresh_etag(item->etag);
    free(all);
    size_t end = strlen(item->etag);
    snprintf(item->etag + end, sizeof item->etag - end, "-%u", item->part_count);
}

static bool taken(const Request *request) {
    const char *condition = header(request, "if-none-match");
    return condition && !strcmp(condition, "*") && store_find(&objects, request->path);
}

static void put_object(Request *request, Reply *reply) {
    if (taken(request)) return refuse(reply, 412, "PreconditionFailed");
    if (!intact(request, &request->content, request->checksums)) return refuse(reply, 400, "BadDigest");
    Item *object = store_make(&objects, request->path);
    object->metadata = headers_beginning(request, "x-amz-meta-");
    object->checksum = request->checksums;
    object->digest = request->content;
    tag(request, object->etag);
    buffer_print(&reply->fields, "ETag: \"%s\"\r\n", object->etag);
    tell_checksum(&reply->fields, &object->digest, object->checksum, true);
}

static void create_upload(Request *request, Reply *reply) {
    char id[48];
    fresh_etag(id);
    Item *upload = store_make(&uploads, id);
    upload->key = strdup(request->path);
    upload->metadata = headers_beginning(request, "x-amz-meta-");
    upload->checksum = wanted(request);
    const char *type = header(request, "x-amz-checksum-type");
    upload->composite = type ? !strcmp(type, "COMPOSITE") : upload->checksum != CRC64NVME;
    if (header(request, "x-amz-checksum-algorithm") && upload->checksum)
        buffer_print(&reply->fields, "x-amz-checksum-algorithm: %s\r\nx-amz-checksum-type: %s\r\n",
                     algorithm_of(upload->checksum)->element, upload->composite ? "COMPOSITE" : "FULL_OBJECT");
    const char *slash = strchr(request->path + 1, '/');
    buffer_print(&reply->body,
                 "<InitiateMultipartUploadResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Bucket>%.*s</Bucket><Key>%s</Key><UploadId>%s</UploadId>"
                 "</InitiateMultipartUploadResult>",
                 (int)(slash - request->path - 1), request->path + 1, slash + 1, id);
}

static void put_part(Request *request, Reply *reply, Item *upload, uint32_t number) {
    if (!intact(request, &request->content, request->checksums)) return refuse(reply, 400, "BadDigest");
    Part *part = item_part(upload, number, NULL);
    part->digest = request->content;
    tag(request, part->etag);
    buffer_print(&reply->fields, "ETag: \"%s\"\r\n", part->etag);
    tell_checksum(&reply->fields, &part->digest, request->checksums, false);
}

static uint32_t count(const Buffer *body, const char *word) {
    uint32_t found = 0;
    char *at = body->at, *end = at + body->size;
    while ((at = memmem(at, (size_t)(end - at), word, strlen(word)))) found++, at++;
    return found;
}

static void complete_upload(Request *request, Reply *reply, Item *upload) {
    if (taken(request)) return refuse(reply, 412, "PreconditionFailed");
    if (!upload->part_count || count(&request->kept, "<PartNumber>") != upload->part_count)
        return refuse(reply, 400, "InvalidPart");
    item_join(upload);
    const char *size = header(request, "x-amz-mp-object-size");
    if ((!upload->composite && !intact(request, &upload->digest, upload->checksum)) ||
        (size && strtoull(size, NULL, 10) != upload->digest.size))
        return refuse(reply, 400, "BadDigest");
    tag_joined(upload);
    Item *object = store_make(&objects, request->path);
    object->metadata = upload->metadata, upload->metadata = NULL;
    object->checksum = upload->composite ? 0 : upload->checksum;
    object->digest = upload->digest;
    memcpy(object->etag, upload->etag, sizeof object->etag);
    store_drop(&uploads, upload);
    buffer_print(&reply->body, "<CompleteMultipartUploadResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><ETag>\"%s\"</ETag>", object->etag);
    const Algorithm *algorithm = algorithm_of(object->checksum);
    char text[16];
    if (algorithm)
        buffer_print(&reply->body, "<Checksum%s>%s</Checksum%s><ChecksumType>FULL_OBJECT</ChecksumType>",
                     algorithm->element,
                     base64_of(value_of(&object->digest, object->checksum), algorithm->bytes, false, text),
                     algorithm->element);
    buffer_print(&reply->body, "</CompleteMultipartUploadResult>");
}

static void list_parts(Reply *reply, const Item *upload) {
    buffer_print(&reply->body, "<ListPartsResult><IsTruncated>false</IsTruncated>");
    for (uint32_t i = 0; i < upload->part_count; i++)
        buffer_print(&reply->body,
                     "<Part><PartNumber>%u</PartNumber><ETag>\"%s\"</ETag><Size>%llu</Size></Part>",
                     upload->parts[i].number, upload->parts[i].etag,
                     (unsigned long long)upload->parts[i].digest.size);
    buffer_print(&reply->body, "</ListPartsResult>");
}

static void show(const Request *request, Reply *reply) {
    Item *object = store_find(&objects, request->path);
    if (!object) return refuse(reply, 404, "NoSuchKey");
    reply->length = object->digest.size;
    buffer_print(&reply->fields, "ETag: \"%s\"\r\n%s" LAST_MODIFIED, object->etag, object->metadata);
    if (header(request, "x-amz-checksum-mode"))
        tell_checksum(&reply->fields, &object->digest, object->checksum, true);
}

/* What is asked of a bucket: it is there, and empty. */
static void bucket(const Request *request, Reply *reply) {
    if (!strcmp(request->method, "GET"))
        buffer_print(&reply->body, "<ListBucketResult><IsTruncated>false</IsTruncated><KeyCount>0</KeyCount>"
                                   "</ListBucketResult>");
}

static bool speaks(const Request *request) {
    (void)request;
    return true;
}

static void begin(Request *request) {
    char id[64];
    request->keep = !strcmp(request->method, "POST");
    if (strcmp(request->method, "PUT")) return;
    request->checksums = wanted(request);
    Item *upload = parameter(request, "uploadId", id, sizeof id) ? store_find(&uploads, id) : NULL;
    if (upload) request->checksums = upload->checksum;
}

static void answer(Request *request, Reply *reply) {
    const char *method = request->method;
    char id[64] = "", number[16] = "";
    bool in_upload = parameter(request, "uploadId", id, sizeof id);
    parameter(request, "partNumber", number, sizeof number);
    Item *upload = in_upload ? store_find(&uploads, id) : NULL;
    const char *slash = strchr(request->path + 1, '/');
    if (!slash || !slash[1])
        bucket(request, reply);
    else if (in_upload && !upload)
        refuse(reply, 404, "NoSuchUpload");
    else if (!strcmp(method, "PUT") && in_upload)
        put_part(request, reply, upload, (uint32_t)atoi(number));
    else if (!strcmp(method, "PUT"))
        put_object(request, reply);
    else if (!strcmp(method, "POST") && in_upload)
        complete_upload(request, reply, upload);
    else if (!strcmp(method, "POST"))
        create_upload(request, reply);
    else if (!strcmp(method, "DELETE")) {
        Item *item = in_upload ? upload : store_find(&objects, request->path);
        reply->status = 204;
        if (item) store_drop(in_upload ? &uploads : &objects, item);
    } else if (!strcmp(method, "GET") && in_upload)
        list_parts(reply, upload);
    else
        show(request, reply);
    if (reply->body.size && reply->status == 200)
        buffer_print(&reply->fields, "Content-Type: application/xml\r\n");
}

const Protocol s3 = {speaks, begin, answer};

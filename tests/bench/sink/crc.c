/* CRCs at memory speed: the data is folded with carry-less multiplication down to 16 bytes, and what is
 * left goes through tables. One routine does for all three polynomials: folding replaces a message by a
 * shorter one with the same remainder, and only the constants differ. */
#include "crc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

typedef struct {
    uint64_t polynomial; /* bit-reflected: the highest power is the lowest bit */
    int width;
    uint64_t table[8][256]; /* table[i][b]: remainder of byte b with i zero bytes after it */
    uint64_t far[2], near[2]; /* what multiplies the two halves of 16 bytes to move them 64 or 16 bytes on */
} Crc;

static Crc crc64nvme = {.polynomial = 0x9a6c9329ac4bc9b5, .width = 64};
static Crc crc32c = {.polynomial = 0x82f63b78, .width = 32};
static Crc crc32 = {.polynomial = 0xedb88320, .width = 32};
static int folds;

static uint64_t ones(const Crc *crc) {
    return crc->width == 64 ? UINT64_MAX : UINT32_MAX;
}

static uint64_t times_x(const Crc *crc, uint64_t a) {
    return a >> 1 ^ (a & 1 ? crc->polynomial : 0);
}

static uint64_t times(const Crc *crc, uint64_t a, uint64_t b) {
    uint64_t product = 0;
    for (uint64_t bit = 1ull << (crc->width - 1); bit; bit >>= 1) {
        if (a & bit) product ^= b;
        b = times_x(crc, b);
    }
    return product;
}

static uint64_t power_of_x(const Crc *crc, uint64_t exponent) {
    uint64_t result = 1ull << (crc->width - 1), square = result >> 1;
    for (; exponent; exponent >>= 1) {
        if (exponent & 1) result = times(crc, result, square);
        square = times(crc, square, square);
    }
    return result;
}

/* A factor that moves 64 reflected bits by `bits`: the product of two reflected numbers comes out one
 * bit short, hence the minus one. */
static uint64_t mover(const Crc *crc, unsigned bits) {
    return power_of_x(crc, bits - 1) << (64 - crc->width);
}

static void prepare(Crc *crc) {
    for (unsigned byte = 0; byte < 256; byte++) {
        uint64_t rest = byte;
        for (int bit = 0; bit < 8; bit++) rest = times_x(crc, rest);
        crc->table[0][byte] = rest;
    }
    for (int zeros = 1; zeros < 8; zeros++)
        for (unsigned byte = 0; byte < 256; byte++) {
            uint64_t before = crc->table[zeros - 1][byte];
            crc->table[zeros][byte] = before >> 8 ^ crc->table[0][before & 255];
        }
    crc->far[0] = mover(crc, 512 + 64), crc->far[1] = mover(crc, 512);
    crc->near[0] = mover(crc, 128 + 64), crc->near[1] = mover(crc, 128);
}

static uint64_t by_table(const Crc *crc, uint64_t state, const uint8_t *bytes, size_t n) {
    for (; n >= 8; n -= 8, bytes += 8) {
        uint64_t word;
        memcpy(&word, bytes, 8);
        state ^= word;
        word = 0;
        for (int i = 0; i < 8; i++) word ^= crc->table[7 - i][state >> (8 * i) & 255];
        state = word;
    }
    for (; n; n--, bytes++) state = state >> 8 ^ crc->table[0][(state ^ *bytes) & 255];
    return state;
}

#if defined(__x86_64__)
__attribute__((target("pclmul,sse4.1"))) static inline __m128i moved(__m128i x, __m128i by) {
    return _mm_xor_si128(_mm_clmulepi64_si128(x, by, 0x00), _mm_clmulepi64_si128(x, by, 0x11));
}

__attribute__((target("pclmul,sse4.1"))) static uint64_t
by_folding(const Crc *crc, uint64_t state, const uint8_t *bytes, size_t n) {
    const __m128i *in = (const __m128i *)bytes;
    __m128i far = _mm_loadu_si128((const __m128i *)crc->far), near = _mm_loadu_si128((const __m128i *)crc->near);
    __m128i a = _mm_xor_si128(_mm_loadu_si128(in), _mm_cvtsi64_si128((int64_t)state));
    __m128i b = _mm_loadu_si128(in + 1), c = _mm_loadu_si128(in + 2), d = _mm_loadu_si128(in + 3);
    for (in += 4, n -= 64; n >= 64; in += 4, n -= 64) {
        a = _mm_xor_si128(moved(a, far), _mm_loadu_si128(in));
        b = _mm_xor_si128(moved(b, far), _mm_loadu_si128(in + 1));
        c = _mm_xor_si128(moved(c, far), _mm_loadu_si128(in + 2));
        d = _mm_xor_si128(moved(d, far), _mm_loadu_si128(in + 3));
    }
    b = _mm_xor_si128(moved(a, near), b);
    c = _mm_xor_si128(moved(b, near), c);
    d = _mm_xor_si128(moved(c, near), d);
    uint8_t last[16];
    _mm_storeu_si128((__m128i *)last, d);
    return by_table(crc, by_table(crc, 0, last, 16), (const uint8_t *)in, n);
}
#endif

static uint64_t updated(const Crc *crc, uint64_t value, const void *bytes, size_t n) {
    value ^= ones(crc);
#if defined(__x86_64__)
    if (folds && n >= 64) return by_folding(crc, value, bytes, n) ^ ones(crc);
#endif
    return by_table(crc, value, bytes, n) ^ ones(crc);
}

static void expect(const Crc *crc, uint64_t check) {
    uint8_t many[1000];
    for (size_t i = 0; i < sizeof many; i++) many[i] = (uint8_t)(i * i >> 3);
    uint64_t slow = by_table(crc, ones(crc), many, sizeof many) ^ ones(crc);
    uint64_t half = updated(crc, updated(crc, 0, many, 333), many + 333, sizeof many - 333);
    uint64_t tail = updated(crc, 0, many + 333, sizeof many - 333);
    uint64_t joined = times(crc, updated(crc, 0, many, 333), power_of_x(crc, 8 * (sizeof many - 333))) ^ tail;
    if (updated(crc, 0, "123456789", 9) == check && slow == half && slow == joined) return;
    fprintf(stderr, "sink: the CRC whose check value is %llx is wrong here\n", (unsigned long long)check);
    exit(70);
}

void crc_begin(void) {
#if defined(__x86_64__)
    folds = __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1");
#endif
    prepare(&crc64nvme), prepare(&crc32c), prepare(&crc32);
    /* The catalogue's check values. */
    expect(&crc64nvme, 0xae8b14860a799888), expect(&crc32c, 0xe3069283), expect(&crc32, 0xcbf43926);
}

void crc_update(Digest *digest, unsigned which, const void *bytes, size_t n) {
    digest->size += n;
    if (which & CRC64NVME) digest->crc64nvme = updated(&crc64nvme, digest->crc64nvme, bytes, n);
    if (which & CRC32C) digest->crc32c = updated(&crc32c, digest->crc32c, bytes, n);
    if (which & CRC32) digest->crc32 = updated(&crc32, digest->crc32, bytes, n);
}

Digest crc_joined(Digest a, Digest b) {
    uint64_t bits = 8 * b.size;
    return (Digest){
        .size = a.size + b.size,
        .crc64nvme = times(&crc64nvme, a.crc64nvme, power_of_x(&crc64nvme, bits)) ^ b.crc64nvme,
        .crc32c = times(&crc32c, a.crc32c, power_of_x(&crc32c, bits)) ^ b.crc32c,
        .crc32 = times(&crc32, a.crc32, power_of_x(&crc32, bits)) ^ b.crc32,
    };
}

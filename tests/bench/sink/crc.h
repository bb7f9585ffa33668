/* The three CRCs that clients of the clouds ask for, and their combination from parts. */
#ifndef CRC_H
#define CRC_H

#include <stddef.h>
#include <stdint.h>

enum { CRC64NVME = 1, CRC32C = 2, CRC32 = 4 };

/* What arrived: its size, and those checksums that were asked for (the others stay 0). */
typedef struct {
    uint64_t size, crc64nvme, crc32c, crc32;
} Digest;

/* Make the tables. Ends the process if they, or the fast way through them, are wrong. */
void crc_begin(void);

/* Take `n` bytes more; `which` says which checksums, the same ones for all of a digest's bytes. */
void crc_update(Digest *digest, unsigned which, const void *bytes, size_t n);

/* The digest of what `a` and `b` are of, one after the other. */
Digest crc_joined(Digest a, Digest b);

#endif

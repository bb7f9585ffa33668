/* What the endpoint remembers: of each object and each half-done one all but the content. */
#ifndef STORE_H
#define STORE_H

#include "http.h"

typedef struct {
    uint32_t number;
    char *id; /* a block's; NULL for numbered parts */
    char etag[40];
    Digest digest;
} Part;

/* An object, or one that is being written in parts. */
typedef struct {
    char *name; /* an object's path, or the upload's id */
    char *key;  /* the path at which an upload will become visible */
    char *metadata;
    char etag[80];
    unsigned checksum; /* which one its writer asked for, 0: none */
    bool composite;    /* ... over the parts' checksums, which nobody asks this endpoint for */
    Digest digest;
    uint64_t generation;
    Part *parts;
    uint32_t part_count, part_room;
} Item;

typedef struct {
    Item **slots;
    size_t room, count;
} Store;

extern Store objects, uploads;

/* The item of that name, or NULL. */
Item *store_find(Store *store, const char *name);

/* A fresh item of that name, instead of whatever was there. */
Item *store_make(Store *store, const char *name);

/* Forget it. */
void store_drop(Store *store, Item *item);

/* Where a part goes: by its number, or by its id if it has one. */
Part *item_part(Item *item, uint32_t number, const char *id);

/* Order the parts by number, and make the item's digest that of all of them. */
void item_join(Item *item);

/* A tag that no other object or part has. */
void fresh_etag(char etag[40]);

#endif

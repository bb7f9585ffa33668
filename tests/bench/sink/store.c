#include "store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

Store objects, uploads;

static size_t slot_of(const Store *store, const char *name) {
    uint64_t hash = 0xcbf29ce484222325;
    for (; *name; name++) hash = (hash ^ (uint8_t)*name) * 0x100000001b3;
    return (hash ^ hash >> 32) & (store->room - 1);
}

static void insert(Store *store, Item *item) {
    size_t at = slot_of(store, item->name);
    while (store->slots[at]) at = (at + 1) & (store->room - 1);
    store->slots[at] = item;
}

Item *store_find(Store *store, const char *name) {
    if (!store->room) return NULL;
    for (size_t at = slot_of(store, name); store->slots[at]; at = (at + 1) & (store->room - 1))
        if (!strcmp(store->slots[at]->name, name)) return store->slots[at];
    return NULL;
}

static void item_clear(Item *item) {
    for (uint32_t i = 0; i < item->part_count; i++) free(item->parts[i].id);
    free(item->parts), free(item->metadata), free(item->key);
}

Item *store_make(Store *store, const char *name) {
    static uint64_t generation = 1700000000000000;
    Item *item = store_find(store, name);
    if (item) {
        char *kept = item->name;
        item_clear(item);
        *item = (Item){.name = kept, .generation = ++generation};
        return item;
    }
    if (2 * (store->count + 1) > store->room) {
        Store old = *store;
        store->room = old.room ? 2 * old.room : 1024;
        store->slots = calloc(store->room, sizeof *store->slots);
        for (size_t i = 0; i < old.room; i++)
            if (old.slots[i]) insert(store, old.slots[i]);
        free(old.slots);
    }
    item = calloc(1, sizeof *item);
    item->name = strdup(name);
    item->generation = ++generation;
    store->count++;
    insert(store, item);
    return item;
}

void store_drop(Store *store, Item *item) {
    size_t at = slot_of(store, item->name);
    while (store->slots[at] != item) at = (at + 1) & (store->room - 1);
    store->slots[at] = NULL;
    store->count--;
    item_clear(item);
    free(item->name), free(item);
    /* Those behind it may have been pushed on by it: put them in again. */
    while (store->slots[at = (at + 1) & (store->room - 1)]) {
        Item *next = store->slots[at];
        store->slots[at] = NULL;
        insert(store, next);
    }
}

Part *item_part(Item *item, uint32_t number, const char *id) {
    for (uint32_t i = 0; i < item->part_count; i++) {
        Part *part = &item->parts[i];
        if (id ? part->id && !strcmp(part->id, id) : part->number == number) return part;
    }
    if (item->part_count == item->part_room) {
        item->part_room = item->part_room ? 2 * item->part_room : 16;
        item->parts = realloc(item->parts, item->part_room * sizeof *item->parts);
    }
    Part *part = &item->parts[item->part_count++];
    *part = (Part){.number = number, .id = id ? strdup(id) : NULL};
    return part;
}

static int by_number(const void *a, const void *b) {
    uint32_t x = ((const Part *)a)->number, y = ((const Part *)b)->number;
    return (x > y) - (x < y);
}

void item_join(Item *item) {
    if (item->part_count) qsort(item->parts, item->part_count, sizeof *item->parts, by_number);
    item->digest = (Digest){0};
    for (uint32_t i = 0; i < item->part_count; i++)
        item->digest = crc_joined(item->digest, item->parts[i].digest);
}

void fresh_etag(char etag[40]) {
    static uint64_t count;
    /* Not in the form of an MD5, which it is none of. */
    snprintf(etag, 40, "sink-%llx", (unsigned long long)++count);
}

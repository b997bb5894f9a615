/* For tests that need GGUF and safetensors files: small ones are written here, byte by byte,
 * from the description of the formats and not with the code under test. */
#ifndef KVBUDGET_TESTS_KVGGUF_H
#define KVBUDGET_TESTS_KVGGUF_H

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/kvtest.h"

enum { KG_CAP = 1 << 16 };

struct kg {
    unsigned char b[KG_CAP];
    size_t n;
};

static inline void kg_num(struct kg *g, uint64_t v, size_t n)
{
    assert_true(g->n + n <= KG_CAP);
    for (size_t i = 0; i < n; i++)
        g->b[g->n++] = (unsigned char)(i < 8 ? v >> (8 * i) : 0);
}

static inline void kg_bytes(struct kg *g, const void *p, size_t n)
{
    assert_true(g->n + n <= KG_CAP);
    memcpy(g->b + g->n, p, n);
    g->n += n;
}

static inline void kg_text(struct kg *g, const char *s)
{
    kg_num(g, strlen(s), 8);
    kg_bytes(g, s, strlen(s));
}

static inline void kg_start(struct kg *g, uint64_t tensors, uint64_t keys)
{
    g->n = 0;
    kg_bytes(g, "GGUF", 4);
    kg_num(g, 3, 4);
    kg_num(g, tensors, 8);
    kg_num(g, keys, 8);
}

static inline void kg_key(struct kg *g, const char *key, unsigned type)
{
    kg_text(g, key);
    kg_num(g, type, 4);
}

static inline void kg_u32(struct kg *g, const char *key, uint32_t v)
{
    kg_key(g, key, 4);
    kg_num(g, v, 4);
}

static inline void kg_string(struct kg *g, const char *key, const char *v)
{
    kg_key(g, key, 8);
    kg_text(g, v);
}

static inline void kg_list(struct kg *g, const char *key, const uint32_t *v, size_t n)
{
    kg_key(g, key, 9);
    kg_num(g, 4, 4);
    kg_num(g, n, 8);
    for (size_t i = 0; i < n; i++)
        kg_num(g, v[i], 4);
}

static inline void kg_tensor(struct kg *g, const char *name, uint32_t type, uint64_t offset,
                             size_t n_dims, const uint64_t *dims)
{
    kg_text(g, name);
    kg_num(g, n_dims, 4);
    for (size_t i = 0; i < n_dims; i++)
        kg_num(g, dims[i], 8);
    kg_num(g, type, 4);
    kg_num(g, offset, 8);
}

/* A whole model: keys first, then tensors; counts and offsets are filled in by kgm_end. */
struct kgm {
    struct kg keys, infos;
    uint64_t n_keys, n_tensors, at, bytes;
};

static inline void kgm_key(struct kgm *m, const char *key, uint32_t v)
{
    kg_u32(&m->keys, key, v);
    m->n_keys++;
}

static inline void kgm_string(struct kgm *m, const char *key, const char *v)
{
    kg_string(&m->keys, key, v);
    m->n_keys++;
}

static inline void kgm_list(struct kgm *m, const char *key, const uint32_t *v, size_t n)
{
    kg_list(&m->keys, key, v, n);
    m->n_keys++;
}

/* Types as written: 0 f32, 1 f16, 8 q8_0 (32 in 34 bytes), 12 q4_K (256 in 144). */
static inline void kgm_tensor(struct kgm *m, const char *name, uint32_t type, uint64_t d0,
                              uint64_t d1, uint64_t d2)
{
    uint64_t dims[3] = {d0, d1, d2}, n = d0 * d1 * d2;
    uint64_t bytes = type == 0    ? n * 4
                     : type == 1  ? n * 2
                     : type == 8  ? n / 32 * 34
                     : type == 12 ? n / 256 * 144
                                  : n;

    kg_tensor(&m->infos, name, type, m->at, d2 > 1 ? 3 : d1 > 1 ? 2 : 1, dims);
    m->n_tensors++;
    m->bytes += bytes;
    m->at += (bytes + 31) / 32 * 32;
}

/* Writes the header and makes the file as long as its data would be (a hole). */
static inline void kgm_write(const struct kgm *m, const char *path)
{
    static struct kg g;
    FILE *f = fopen(path, "wb");

    assert_non_null(f);
    kg_start(&g, m->n_tensors, m->n_keys);
    kg_bytes(&g, m->keys.b, m->keys.n);
    kg_bytes(&g, m->infos.b, m->infos.n);
    assert_true(fwrite(g.b, 1, g.n, f) == g.n);
    assert_int_equal(fflush(f), 0);
    assert_int_equal(ftruncate(fileno(f), (off_t)((g.n + 31) / 32 * 32 + m->at)), 0);
    fclose(f);
}

/* A safetensors file with this header (' stands for ") and a hole of data_bytes. */
static inline void ks_write(const char *path, const char *header, uint64_t data_bytes)
{
    static struct kg g;
    FILE *f = fopen(path, "wb");

    assert_non_null(f);
    g.n = 0;
    kg_num(&g, strlen(header), 8);
    kg_bytes(&g, header, strlen(header));
    for (size_t i = 8; i < g.n; i++)
        g.b[i] = g.b[i] == '\'' ? '"' : g.b[i];
    assert_true(fwrite(g.b, 1, g.n, f) == g.n);
    assert_int_equal(fflush(f), 0);
    assert_int_equal(ftruncate(fileno(f), (off_t)(g.n + data_bytes)), 0);
    fclose(f);
}

static inline void ks_text(const char *path, const char *text)
{
    FILE *f = fopen(path, "wb");

    assert_non_null(f);
    for (; *text; text++)
        fputc(*text == '\'' ? '"' : *text, f);
    fclose(f);
}

#endif

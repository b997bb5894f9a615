/* A scheme is a pass over the cache layout on one of three axes. One scheme (or one family of
 * variants of one rule) is one file in planner/cache/scheme/; the Makefile makes the registry
 * from the folder listing. */
#ifndef KVBUDGET_PLANNER_CACHE_SCHEME_H
#define KVBUDGET_PLANNER_CACHE_SCHEME_H

#include "planner/cache/layout.h"
#include "planner/doc/bind.h"

enum scheme_axis { AXIS_SHARING, AXIS_RETENTION, AXIS_STORAGE };

/* What a scheme itself costs besides storing and reading K/V, summed over all layers of ONE
 * sequence. */
struct extra_cost {
    double prefill_flop, decode_flop; /* norms, scores, sorts */
    uint64_t persistent_bytes; /* held as long as the sequence: scores, masks, page metadata */
    uint64_t transient_prefill_bytes; /* score matrices, sorted copies: at the peak only, one
                                         layer's */
    uint64_t decode_read_bytes, decode_write_bytes; /* a step */
};

struct phase {
    uint64_t prompt, decoded; /* tokens */
};

enum { STORE_K = 1, STORE_V = 2 };

struct scheme;
struct scheme_use { /* a scheme as asked for */
    const struct scheme *scheme;
    const char *name; /* the variant: "pizza-top" of pizza.c */
    void *params;     /* bound parameters (scheme->params_size bytes) */
    unsigned
        sides; /* storage: STORE_K, STORE_V or both (`cache.format`, `cache.k`, `cache.v`) */
    struct loc at;
};

struct scheme {
    const char *const *names; /* variants, NULL-terminated: {"cla", NULL} */
    const char *summary;      /* one line */
    const char *source;       /* paper or official code that defines it */
    enum scheme_axis axis;
    const struct field *fields; /* the YAML keys this scheme owns */
    size_t nfields, params_size;
    bool (*apply)(const struct scheme_use *use, struct layout *lay, struct diag *d);
    void (*extra)(const struct scheme_use *use, const struct layout *lay,
                  const struct phase *ph,
                  struct extra_cost *out); /* adds to *out; NULL: none */
    const char *unsupported; /* why no figure can be given (listed, refused), or NULL */
    const char *confidence;  /* "primary", "derived", "secondary", "unverified" */
    const char *caveat;      /* shown as a warning whenever it is used, or NULL */
    const char
        *compare; /* parameters `compare` uses, as inline YAML: "{warmup: 2}"; NULL: defaults */
};

/* The registry (generated) and lookups; case matters, '_' and '-' do not. */
const struct scheme *scheme_at(size_t i); /* NULL past the end; sorted by file */
const struct scheme *scheme_find(enum scheme_axis axis, const char *name, const char **variant);

/* Binds the parameters of `map` (its `scheme` key names the scheme; a scalar is the name alone)
 * and returns what to apply. NULL or "none": use->scheme = NULL. Unknown names: an error with
 * the nearest. */
bool scheme_bind(struct arena *a, enum scheme_axis axis, const struct doc_node *node,
                 struct diag *d, struct scheme_use *use) __attribute__((warn_unused_result));

/* What all schemes of a plan cost one sequence themselves. */
void scheme_costs(const struct scheme_use *uses, uint32_t n, const struct layout *lay,
                  const struct phase *ph, struct extra_cost *out);

const char *scheme_axis_name(enum scheme_axis a);

#endif

/* Field tables: one row a key, which binds it to a member of a struct, checks type, unit and
 * range, and is what --help, the README, unknown-key hints and the TUI's editor read. */
#ifndef KVBUDGET_PLANNER_DOC_BIND_H
#define KVBUDGET_PLANNER_DOC_BIND_H

#include <stddef.h>

#include "planner/doc/doc.h"

enum field_type {
    F_BOOL,     /* bool */
    F_U64,      /* uint64_t: a whole number */
    F_TOKENS,   /* uint64_t: 4096, 128k */
    F_BYTES,    /* uint64_t: 80GiB */
    F_RATE,     /* double: 936GB/s */
    F_FLOPS,    /* double: 989TFLOPS */
    F_SECONDS,  /* double: 2.5ms */
    F_NUMBER,   /* double */
    F_TEXT,     /* const char * */
    F_CHOICE,   /* uint64_t: index into `choices` */
    F_U64_LIST, /* struct u64_list: [0, 1, 12] or one number */
    F_NODE      /* const struct doc_node *: taken as it is */
};

struct u64_list {
    const uint64_t *v;
    size_t n;
};

struct field {
    const char *key;
    enum field_type type;
    size_t offset;   /* of the member */
    double min, max; /* inclusive; numbers only; max 0 = no upper limit */
    bool required;
    const char *fallback;       /* default, as one would write it; NULL = zero / absent */
    const char *const *choices; /* F_CHOICE: NULL-terminated */
    const char *help;           /* one line */
};

#define FIELD(S, member, keyname, ftype, lo, hi, dflt, text)                                   \
    {                                                                                          \
        .key = (keyname), .type = (ftype), .offset = offsetof(S, member), .min = (lo),         \
        .max = (hi), .fallback = (dflt), .help = (text)                                        \
    }
#define FIELD_REQUIRED(S, member, keyname, ftype, lo, hi, text)                                \
    {                                                                                          \
        .key = (keyname), .type = (ftype), .offset = offsetof(S, member), .min = (lo),         \
        .max = (hi), .required = true, .help = (text)                                          \
    }
#define FIELD_CHOICE(S, member, keyname, names, dflt, text)                                    \
    {                                                                                          \
        .key = (keyname), .type = F_CHOICE, .offset = offsetof(S, member), .choices = (names), \
        .fallback = (dflt), .help = (text)                                                     \
    }

/* Fills `out` (zeroed by the caller) from `map` (NULL or a null = all defaults). Unknown keys,
 * keys of `ignored` excepted (NULL-terminated, may be NULL), are errors with a suggestion;
 * `what` names the map in messages: "unknown key 'block_token' in engine; did you mean
 * 'block_tokens'?". All problems are reported. */
bool bind_map(struct arena *a, const struct doc_node *map, const char *what,
              const struct field *fields, size_t nfields, const char *const *ignored,
              struct diag *d, void *out) __attribute__((warn_unused_result));

/* Binds one value to the member of one field; `out` is the struct, as for bind_map. A null
 * value leaves it as it is. (Used for --set, the TUI and sweeps.) */
bool bind_value(struct arena *a, const struct doc_node *value, const char *what,
                const struct field *field, struct diag *d, void *out)
    __attribute__((warn_unused_result));

#endif

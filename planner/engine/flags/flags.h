/* The settings of a server that realise a plan. An engine's file says them with the functions
 * below (struct engine: flags); what they are printed as is planner/plan/flags.h's business.
 * What a server cannot be told, because it has no such setting or cannot run such a cache, is
 * said too, with the key of the spec that asks for it. */
#ifndef KVBUDGET_PLANNER_ENGINE_FLAGS_FLAGS_H
#define KVBUDGET_PLANNER_ENGINE_FLAGS_FLAGS_H

#include "planner/engine/engine.h"

enum flag_place {
    FLAG_COMMAND,     /* on the command line */
    FLAG_ENVIRONMENT, /* before it */
    FLAG_FILE,        /* in a YAML file; the name is a path such as kv_cache_config.dtype */
    FLAG_LOAD,        /* an argument of the Python call that loads the model */
    FLAG_GENERATE     /* and of the one that runs it */
};

struct flag {
    enum flag_place place;
    const char *name, *value; /* value NULL = a switch, or a word of its own */
    const char *key;          /* of the spec; NULL = not a setting */
};

struct flag_refusal {
    const char *key, *reason;
};

enum { FLAGS_MAX = 32, FLAG_REMARKS_MAX = 12 };

struct engine_flags {
    struct arena *arena;
    const char *file; /* of FLAG_FILE */
    struct flag items[FLAGS_MAX];
    size_t n;
    struct flag_refusal cannot[FLAG_REMARKS_MAX];
    size_t n_cannot;
    const char *notes[FLAG_REMARKS_MAX];
    size_t n_notes;
};

struct flags_in {
    const struct engine_in *in; /* of the tightest stage, with its budget in `base` */
    const struct pool *pool;
    const char *model;     /* as a server is told it */
    uint64_t sequences;    /* planned at once, on one replica */
    uint64_t device_bytes; /* of one GPU as a program sees it, memory_limit not applied */
    double offload;        /* share of the cache in host memory */
    bool len_given;        /* the spec itself has max_model_len */
};

/* A setting; NULL text: a switch. Texts must live as long as the arena. */
void flag_text(struct engine_flags *f, enum flag_place place, const char *key, const char *name,
               const char *value);
/* Not put where the value is 0. */
void flag_u64(struct engine_flags *f, enum flag_place place, const char *key, const char *name,
              uint64_t value);
/* With up to six digits. */
void flag_number(struct engine_flags *f, enum flag_place place, const char *key,
                 const char *name, double value);
/* A word of the command: the program, the model. */
void flag_word(struct engine_flags *f, const char *word);

void flag_cannot(struct engine_flags *f, const char *key, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void flag_note(struct engine_flags *f, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* --- what servers have in common ---------------------------------------------------------- */

/* Sharing and eviction that only a shipped model can bring, and a share of the cache in host
 * memory: refused. `engine` as in prose. */
void flags_check_schemes(const struct flags_in *in, const char *engine, struct engine_flags *f);

/* The format rows are stored in; *v, where it differs, V's (else NULL). NULL: nothing is. */
const char *flags_cache_format(const struct flags_in *in, const char **v);

/* "bf16", "fp16" or "fp32": what activations and an unquantized cache are in. */
const char *flags_activation_format(const struct flags_in *in);

/* "bfloat16", "float16", "float32" for our names; NULL for others. */
const char *flags_torch_dtype(const char *format);

/* Weights and cache of a server that is told --dtype, --quantization and --kv-cache-dtype.
 * `types` holds pairs of our format and its word, NULL at the end. */
void flags_formats(const struct flags_in *in, const char *engine, const char *const *types,
                   struct engine_flags *f);

/* The share `fraction` of the memory under hardware.memory_limit, as a share of all of the
 * GPU's: (fraction * (visible - outside)) / (device - outside), rounded down to 0.0001. Notes
 * it where it differs. */
double flags_fraction(const struct flags_in *in, double fraction, uint64_t outside_bytes,
                      struct engine_flags *f);

/* --cpu-offload-gb, for weights.offload_layers: GiB a GPU, rounded up. */
void flags_cpu_offload(const struct flags_in *in, struct engine_flags *f);

/* More than one replica, for a server that has none. */
void flags_replicas(const struct flags_in *in, const char *engine, struct engine_flags *f);

#endif

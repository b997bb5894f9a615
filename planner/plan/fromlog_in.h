/* What the readers of logs and of command lines share; nothing outside planner/plan/fromlog*.c
 * includes this. */
#ifndef KVBUDGET_PLANNER_PLAN_FROMLOG_IN_H
#define KVBUDGET_PLANNER_PLAN_FROMLOG_IN_H

#include "planner/plan/fromlog.h"

enum log_engine { LOG_ANY, LOG_VLLM, LOG_SGLANG, LOG_TRTLLM, LOG_LLAMACPP };
const char *log_engine_title(enum log_engine e); /* "vLLM" */

/* LOG_DERIVED: what flags amount to together. */
enum log_rank { LOG_PRINTED = 1, LOG_PAIR, LOG_FLAG, LOG_DERIVED };

/* How lines of the same term go together: ranks differ, and so do the parts of one start. */
enum log_many { LOG_LARGEST, LOG_SMALLEST, LOG_FIRST, LOG_LAST, LOG_SUM };

struct log_reader {
    struct arena *arena;
    struct server_log *log;
    struct diag *diag;
    enum log_engine engine;
    struct loc engine_at, at; /* `at`: of the line */
    const char *line;         /* whole, cleaned */
    bool failed;
    double k_bytes, v_bytes, kv_resolution; /* SGLang prints the halves of its pool */
    bool kv_printed;
};

/* The engine that speaks here; a second one is an error. */
bool log_speaks(struct log_reader *r, enum log_engine e);

/* Stores one setting: a higher rank wins, of two flags that differ the later, with a warning.
 */
void log_set(struct log_reader *r, const char *path, const char *value, const char *words,
             enum log_rank rank);
void log_model(struct log_reader *r, const char *name, const char *words, enum log_rank rank);
/* Stores one term; a line with more digits replaces one with fewer. */
void log_measure(struct log_reader *r, const char *path, double value, double resolution,
                 enum log_many many);
const struct log_setting *log_setting(const struct server_log *log, const char *path);
bool log_setting_u64(const struct server_log *log, const char *path, uint64_t *out);

/* A number at `s`, with commas between thousands: its end, or NULL. `decimals`: digits behind
 * the point. */
const char *log_number(const char *s, char *digits, size_t n, unsigned *decimals);
/* A size at `s`: a number and a unit of bytes, where GB is 2^30 as these programs mean it. */
const char *log_bytes(const char *s, double *bytes, double *resolution);

/* One cleaned line of a log: its terms, its settings, and key=value lists. */
void log_line(struct log_reader *r, const char *line);

/* Whether this line is a command that starts a server: then it is read. `line` may hold several
 * lines joined where a backslash ended them. */
bool log_command(struct log_reader *r, const char *line);

enum log_flag_kind {
    FLAG_COUNT,  /* a whole number */
    FLAG_TOKENS, /* a whole number, in vLLM with k (1000) or K (1024); -1 = not set */
    FLAG_NUMBER, /* a share */
    FLAG_MODEL,
    FLAG_CACHE, /* a type of cache */
    FLAG_CACHE_GGML,
    FLAG_DTYPE,  /* of the weights: only fp32 changes sizes */
    FLAG_QUANT,  /* weights quantized while loading */
    FLAG_MEMORY, /* bytes, as whole numbers or with k, m, g */
    FLAG_YES,    /* no value */
    FLAG_NO,
    FLAG_CHOICE,   /* on, off, auto; or no value, which is on */
    FLAG_LAYERS,   /* a number; -1, auto and all are every layer */
    FLAG_UNPLANNED /* changes memory in a way that a spec does not say */
};

struct log_flag {
    enum log_engine engine;
    const char *name, *other; /* a short name, or another long one */
    enum log_flag_kind kind;
    const char *path;
};

/* The option of this spelling (n bytes), NULL when no spec has a key for it. */
const struct log_flag *log_flag_of(enum log_engine e, const char *word, size_t n);
/* Whether the next word (NULL: none) is its value. */
bool log_flag_takes_value(const struct log_flag *f, const char *next);
/* Stores its value; a malformed one is DIAG_INPUT. */
bool log_flag_set(struct log_reader *r, const struct log_flag *f, const char *v,
                  enum log_rank rank);

/* The settings in a printed list such as {'max_model_len': 8192, ...} or (tp_size=2, ...). */
void log_pairs(struct log_reader *r, const char *line);

/* Refuses flags that contradict each other. */
void log_check(struct log_reader *r);

#endif

/* Reading a log: lines of bounded length without colours and control characters, each first
 * tried as a command and then as a line of the log; and the store of what they say. */
#include "planner/plan/fromlog_in.h"

#include <string.h>

#include "planner/base/utf8.h"
#include "planner/engine/engine.h"

static const struct {
    const char *name, *title;
} engines[] = {
    [LOG_ANY] = {NULL, NULL},
    [LOG_VLLM] = {"vllm", "vLLM"},
    [LOG_SGLANG] = {"sglang", "SGLang"},
    [LOG_TRTLLM] = {"trtllm", "TensorRT-LLM"},
    [LOG_LLAMACPP] = {"llamacpp", "llama.cpp"},
};

const char *log_engine_title(enum log_engine e)
{
    return engines[e].title;
}

bool log_speaks(struct log_reader *r, enum log_engine e)
{
    if (e == LOG_ANY || e == r->engine)
        return true;
    if (r->engine == LOG_ANY) {
        r->engine = e;
        r->engine_at = r->at;
        r->log->engine = engines[e].name;
        return true;
    }
    if (!r->failed)
        diag_add(r->diag, DIAG_INPUT, r->at,
                 "this line is of %s, line %d is of %s: give the log of one server",
                 engines[e].title, r->engine_at.line, engines[r->engine].title);
    r->failed = true;
    return false;
}

/* --- settings -------------------------------------------------------------------------------
 */

const struct log_setting *log_setting(const struct server_log *log, const char *path)
{
    for (size_t i = 0; i < log->n_settings; i++)
        if (!strcmp(log->settings[i].path, path))
            return &log->settings[i];
    return NULL;
}

bool log_setting_u64(const struct server_log *log, const char *path, uint64_t *out)
{
    const struct log_setting *s = log_setting(log, path);

    return s && unit_parse_u64(s->value, out) == UNIT_OK;
}

/* True when the new value shall stand. */
static bool supersedes(struct log_reader *r, const struct log_setting *old,
                       const struct log_setting *fresh)
{
    if (fresh->rank != old->rank)
        return fresh->rank > old->rank;
    if (fresh->rank == LOG_FLAG && strcmp(old->value, fresh->value) != 0)
        diag_add(r->diag, DIAG_WARN, fresh->at, "%s %s after %s %s: the later counts",
                 fresh->words, fresh->value, old->words, old->value);
    return true;
}

void log_set(struct log_reader *r, const char *path, const char *value, const char *words,
             enum log_rank rank)
{
    struct server_log *log = r->log;
    struct log_setting fresh = {path, arena_strdup(r->arena, value), words, r->at, (int)rank};

    for (size_t i = 0; i < log->n_settings; i++) {
        if (strcmp(log->settings[i].path, path) != 0)
            continue;
        if (supersedes(r, &log->settings[i], &fresh))
            log->settings[i] = fresh;
        return;
    }
    if (log->n_settings < LOG_SETTINGS_MAX)
        log->settings[log->n_settings++] = fresh;
}

/* Names stay sorted by rank, each once. */
void log_model(struct log_reader *r, const char *name, const char *words, enum log_rank rank)
{
    struct server_log *log = r->log;
    size_t i;

    for (i = 0; i < log->n_models; i++)
        if (!strcmp(log->models[i].value, name))
            return;
    if (log->n_models == LOG_MODELS_MAX)
        return;
    for (i = log->n_models++; i > 0 && log->models[i - 1].rank < (int)rank; i--)
        log->models[i] = log->models[i - 1];
    log->models[i] =
        (struct log_setting){"model", arena_strdup(r->arena, name), words, r->at, (int)rank};
}

/* --- terms ----------------------------------------------------------------------------------
 */

static double combined(enum log_many many, double old, double fresh)
{
    switch (many) {
    case LOG_LARGEST: return old > fresh ? old : fresh;
    case LOG_SMALLEST: return old < fresh ? old : fresh;
    case LOG_FIRST: return old;
    case LOG_LAST: return fresh;
    case LOG_SUM: return old + fresh;
    }
    return fresh;
}

void log_measure(struct log_reader *r, const char *path, double value, double resolution,
                 enum log_many many)
{
    struct server_log *log = r->log;

    for (size_t i = 0; i < log->n_terms; i++) {
        struct log_term *t = &log->terms[i];
        double both;
        if (strcmp(t->path, path) != 0)
            continue;
        if (many != LOG_SUM && many != LOG_LAST && resolution > t->resolution)
            return;
        both = combined(many, t->value, value);
        if (many != LOG_SUM && many != LOG_LAST && resolution < t->resolution)
            both = value;
        t->resolution = many == LOG_SUM ? t->resolution + resolution
                        : many == LOG_FIRST && resolution >= t->resolution ? t->resolution
                                                                           : resolution;
        t->at = r->at;
        t->value = both;
        return;
    }
    if (log->n_terms < LOG_TERMS_MAX)
        log->terms[log->n_terms++] =
            (struct log_term){arena_strdup(r->arena, path), value, resolution, r->at};
}

/* --- numbers --------------------------------------------------------------------------------
 */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool thousands(const char *s)
{
    return s[0] == ',' && is_digit(s[1]) && is_digit(s[2]) && is_digit(s[3]) && !is_digit(s[4]);
}

const char *log_number(const char *s, char *digits, size_t n, unsigned *decimals)
{
    size_t used = 0;
    bool point = false;

    *decimals = 0;
    if (!is_digit(*s))
        return NULL;
    for (; used + 1 < n; s++) {
        if (!point && thousands(s))
            continue;
        if (!point && s[0] == '.' && is_digit(s[1]))
            point = true;
        else if (!is_digit(*s))
            break;
        else
            *decimals += point;
        digits[used++] = *s;
    }
    digits[used] = '\0';
    return is_digit(*s) ? NULL : s;
}

static const struct byte_word {
    const char *word, *unit;
    double bytes;
} byte_words[] = {
    {"GiB", "GiB", 1073741824.0},    {"MiB", "MiB", 1048576.0},   {"KiB", "KiB", 1024.0},
    {"TiB", "TiB", 1099511627776.0}, {"GB", "GiB", 1073741824.0}, {"MB", "MiB", 1048576.0},
    {"KB", "KiB", 1024.0},           {"bytes", "B", 1.0},         {"B", "B", 1.0},
};

static double last_digit(double unit, unsigned decimals)
{
    double half = unit / 2;

    for (unsigned i = 0; i < decimals; i++)
        half /= 10;
    return half;
}

const char *log_bytes(const char *s, double *bytes, double *resolution)
{
    char digits[32], text[48];
    unsigned decimals;
    uint64_t whole = 0;
    const char *end = log_number(s, digits, sizeof digits, &decimals);

    if (!end)
        return NULL;
    end += strspn(end, " ");
    for (size_t i = 0; i < sizeof byte_words / sizeof *byte_words; i++) {
        const struct byte_word *w = &byte_words[i];
        size_t n = strlen(w->word);
        enum unit_error e;
        if (strncmp(end, w->word, n) != 0 || (end[n] >= 'a' && end[n] <= 'z'))
            continue;
        snprintf(text, sizeof text, "%s%s", digits, w->unit);
        e = unit_parse_bytes(text, &whole);
        if (e != UNIT_OK && e != UNIT_FRACTION)
            return NULL;
        *bytes = (double)whole;
        *resolution = w->bytes > 1 ? last_digit(w->bytes, decimals) : 0;
        return end + n;
    }
    return NULL;
}

/* --- lines ----------------------------------------------------------------------------------
 */

/* Takes out what colours a terminal: ESC [ ... letter, also as it is left when the escape
 * character was lost on the way through a web page. Tabs become blanks. */
static void clean(char *line)
{
    size_t to = 0;

    for (size_t i = 0; line[i]; i++) {
        if (line[i] == '\033' && line[i + 1] == '[') {
            i += 2;
            i += strspn(line + i, "0123456789;?");
            if (!line[i])
                break;
            continue;
        }
        line[to++] = line[i] == '\t' ? ' ' : line[i];
    }
    line[to] = '\0';
    utf8_clean(line, to);
}

static bool ends_in_backslash(const char *line, size_t *n)
{
    *n = strlen(line);
    while (*n && line[*n - 1] == ' ')
        --*n;
    return *n && line[*n - 1] == '\\';
}

struct joined {
    char *text; /* LOG_LINE_MAX + 1 */
    size_t n;
    struct loc at; /* of its first line */
};

/* One line; lines that end in a backslash wait for the next. */
static void take(struct log_reader *r, struct joined *j, const char *line)
{
    size_t n;
    bool more = ends_in_backslash(line, &n);
    struct loc here = r->at;

    if (more)
        n--;
    else
        n = strlen(line);
    if (!j->n)
        j->at = here;
    if (j->n + n + 1 < LOG_LINE_MAX) {
        memcpy(j->text + j->n, line, n);
        j->n += n;
        j->text[j->n++] = ' ';
    }
    if (more) {
        log_line(r, line);
        return;
    }
    j->text[j->n - (j->n > 0)] = '\0';
    j->n = 0;
    r->at = j->at;
    if (!log_command(r, j->text)) {
        r->at = here;
        log_line(r, line);
    }
    r->at = here;
}

static void read_lines(struct log_reader *r, const char *text, size_t size)
{
    struct joined j = {.text = arena_alloc(r->arena, LOG_LINE_MAX + 1, 1)};
    char *line = arena_alloc(r->arena, LOG_LINE_MAX + 1, 1);
    size_t i = 0;
    bool cut = false;

    for (int number = 1; i < size && !r->failed; number++) {
        const char *end = memchr(text + i, '\n', size - i);
        size_t n = end ? (size_t)(end - text) - i : size - i, kept = n;
        r->at = (struct loc){r->log->name, number, 0};
        if (n > LOG_LINE_MAX) {
            kept = LOG_LINE_MAX;
            cut = cut || diag_add(r->diag, DIAG_WARN, r->at,
                                  "is longer than %d bytes: the rest of the line is not read",
                                  LOG_LINE_MAX);
        }
        for (size_t k = 0; k < kept; k++) /* a NUL would end the text */
            line[k] = text[i + k] ? text[i + k] : '?';
        while (kept && line[kept - 1] == '\r')
            kept--;
        line[kept] = '\0';
        clean(line);
        take(r, &j, line);
        i += n + 1;
    }
    if (j.n && !r->failed)
        take(r, &j, "");
}

/* Terms in the order of a report. */
static int place(const char *path)
{
    static const char *const order[] = {
        "usable_bytes",     "weights_bytes",   "activation_bytes", "non_torch_bytes",
        "cuda_graph_bytes", "workspace_bytes", "kv_pool_bytes",    "state_bytes",
        "k_bytes",          "v_bytes",         "kv_blocks",        "kv_tokens",
        "max_concurrency"};
    const char *name = strrchr(path, '.') + 1;
    int n = sizeof order / sizeof *order;

    for (int i = 0; i < n; i++)
        if (!strcmp(order[i], name))
            return i;
    return n;
}

static void sort_terms(struct server_log *log)
{
    for (size_t i = 1; i < log->n_terms; i++) {
        struct log_term t = log->terms[i];
        size_t k = i;
        for (; k && place(log->terms[k - 1].path) > place(t.path); k--)
            log->terms[k] = log->terms[k - 1];
        log->terms[k] = t;
    }
}

/* The two halves of SGLang's pool, where the whole was not printed. */
static void close_sglang(struct log_reader *r)
{
    if (r->kv_printed)
        log_measure(r, "memory.per_gpu.kv_pool_bytes", r->k_bytes + r->v_bytes,
                    r->kv_resolution, LOG_FIRST);
}

bool fromlog_read(struct arena *a, const char *name, const char *text, size_t size,
                  struct diag *d, struct server_log *out)
{
    struct log_reader r = {.arena = a, .log = out};

    *out = (struct server_log){.name = arena_strdup(a, name), .diag = diag_new(a)};
    r.diag = out->diag;
    if (size > LOG_FILE_MAX)
        diag_add(r.diag, DIAG_INPUT, (struct loc){out->name, 0, 0},
                 "is longer than %d MiB, the most that is read of a log", LOG_FILE_MAX >> 20);
    else
        read_lines(&r, text, size);
    close_sglang(&r);
    sort_terms(out);
    r.at = r.engine_at;
    if (!diag_failed(r.diag) && r.engine == LOG_ANY)
        diag_add(r.diag, DIAG_INPUT, (struct loc){out->name, 0, 0},
                 "holds no command line and no start-up line of vLLM, SGLang, TensorRT-LLM or "
                 "llama.cpp");
    if (!diag_failed(r.diag))
        log_check(&r);
    for (size_t i = 0; i < diag_count(r.diag); i++) {
        const struct diag_message *m = diag_at(r.diag, i);
        diag_add(d, m->kind, m->at, "%s", m->text);
    }
    return !diag_failed(r.diag);
}

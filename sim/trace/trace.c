/* Traces for the simulator: a file or distributions, scaled, counted, and rewound. The formats
 * are the other files of this folder. */
#include "sim/trace.h"

#include <string.h>

#include "planner/doc/doc.h"
#include "sim/arrivals.h"
#include "sim/trace_file.h"

#define ENTRY(id) extern const struct trace_format trace_##id;
#include "trace.inc"
#undef ENTRY

static const struct trace_format *const formats[] = {
#define ENTRY(id) &trace_##id,
#include "trace.inc"
#undef ENTRY
    NULL,
};
enum { N_FORMATS = sizeof formats / sizeof *formats - 1 };

struct trace {
    struct diag *diag;
    const char *name;
    struct trace_scale scale;
    struct trace_file *file; /* or */
    struct arrivals_gen *gen;
    bool failed;
    uint64_t n, blocks; /* handed out */
    double first_s, last_s;
};

/* --- formats --------------------------------------------------------------------------------
 */

const struct trace_format *trace_format_at(size_t i)
{
    return i < N_FORMATS ? formats[i] : NULL;
}

const struct trace_format *trace_format_find(const char *name, struct diag *d)
{
    const char *names[N_FORMATS], *near;

    for (size_t i = 0; i < N_FORMATS; i++) {
        names[i] = formats[i]->name;
        if (!strcmp(names[i], name))
            return formats[i];
    }
    near = doc_nearest(name, names, N_FORMATS);
    diag_add(d, DIAG_USAGE, (struct loc){0},
             near ? "there is no trace format '%s'; did you mean '%s'?"
                  : "there is no trace format '%s'; `kvbudget list traces` has them",
             name, near);
    return NULL;
}

const char *trace_format_name(const struct trace_format *f)
{
    return f->name;
}

const char *trace_format_summary(const struct trace_format *f)
{
    return f->summary;
}

const char *trace_format_source(const struct trace_format *f)
{
    return f->source;
}

/* --- opening --------------------------------------------------------------------------------
 */

static bool scale_ok(const struct trace_scale *s, struct diag *d)
{
    const double v[] = {s->rate, s->prompt, s->output};

    for (int i = 0; i < 3; i++)
        if (!(v[i] >= 1e-6 && v[i] <= 1e6))
            return diag_add(d, DIAG_USAGE, (struct loc){0},
                            "a scale of a trace is a number from 1e-6 to 1e6, found %g", v[i]);
    return true;
}

static struct trace *of_file(struct arena *a, const struct trace_source *from,
                             const struct trace_scale *scale, struct diag *d)
{
    struct trace *t = ARENA_NEW(a, struct trace, 1);

    if (!scale_ok(scale, d))
        return NULL;
    t->diag = d;
    t->scale = *scale;
    t->file = trace_file_open(a, from, d);
    if (!t->file)
        return NULL;
    t->name = arena_printf(a, "%s trace %s", t->file->format->name, t->file->lines.name);
    if (t->file->format->note)
        diag_add(d, DIAG_NOTE, (struct loc){.file = t->file->lines.name}, "%s",
                 t->file->format->note);
    return t;
}

struct trace *trace_open(struct arena *a, const char *path, const char *format,
                         const struct trace_scale *scale, struct diag *d)
{
    struct trace_source from = {.path = path, .format = format};

    return of_file(a, &from, scale, d);
}

struct trace *trace_of_text(struct arena *a, const char *text, size_t n, const char *format,
                            const struct trace_scale *scale, struct diag *d)
{
    struct trace_source from = {.path = "<text>", .format = format, .text = text, .n = n};

    return of_file(a, &from, scale, d);
}

struct trace *trace_synthetic(struct arena *a, const struct arrivals *in,
                              const struct trace_scale *scale, struct diag *d)
{
    struct trace *t = ARENA_NEW(a, struct trace, 1);

    if (!scale_ok(scale, d))
        return NULL;
    t->diag = d;
    t->scale = *scale;
    t->gen = arrivals_new(a, in, d);
    t->name = in->process ? arena_strdup(a, in->process) : "arrivals";
    return t->gen ? t : NULL;
}

/* --- requests -------------------------------------------------------------------------------
 */

static bool scale_length(struct trace *t, const char *what, double by, uint64_t *tokens)
{
    double v = (double)*tokens * by + 0.5;

    if (by == 1)
        return true;
    if (v >= TRACE_TOKENS_MAX)
        return diag_add(t->diag, DIAG_INPUT,
                        (struct loc){.file = t->file ? t->file->lines.name : t->name,
                                     .line = t->file ? t->file->lines.line : 0},
                        "%llu %s tokens times %g are more than %d", (unsigned long long)*tokens,
                        what, by, TRACE_TOKENS_MAX);
    *tokens = v < 1 ? 1 : (uint64_t)v;
    return true;
}

/* Hashes stand for what a prompt begins with. A shorter one has fewer blocks; a longer one goes
 * on behind them with tokens of its own, so a block that was not whole is another one. */
static void scale_hashes(struct request *r, uint64_t before)
{
    uint64_t blocks;

    if (!r->n_hashes || r->prompt_tokens == before)
        return;
    blocks = (r->prompt_tokens + r->hash_tokens - 1) / r->hash_tokens;
    if (r->prompt_tokens > before)
        blocks = before / r->hash_tokens;
    if (r->n_hashes > blocks)
        r->n_hashes = (uint32_t)blocks;
}

static bool scale_request(struct trace *t, struct request *r)
{
    uint64_t prompt = r->prompt_tokens;

    if (!scale_length(t, "prompt", t->scale.prompt, &r->prompt_tokens) ||
        !scale_length(t, "output", t->scale.output, &r->output_tokens))
        return false;
    scale_hashes(r, prompt);
    if (!t->n)
        t->first_s = r->arrival_s;
    if (t->scale.rate != 1)
        r->arrival_s = t->first_s + (r->arrival_s - t->first_s) / t->scale.rate;
    return true;
}

/* What was left out is said once all is read. */
static bool end(struct trace *t)
{
    const struct trace_file *f = t->file;

    if (f && f->skipped)
        diag_add(t->diag, DIAG_WARN,
                 (struct loc){.file = f->lines.name, .line = f->first_skipped},
                 "%llu records have no prompt or no output tokens%s%s; they are left out, this "
                 "is the first",
                 (unsigned long long)f->skipped, f->format->zero ? ": " : "",
                 f->format->zero ? f->format->zero : "");
    if (!t->n)
        diag_add(t->diag, DIAG_INPUT, (struct loc){.file = f ? f->lines.name : t->name},
                 "holds no requests");
    return false;
}

bool trace_next(struct trace *t, struct request *out)
{
    bool failed = false;

    if (t->failed)
        return false;
    if (t->scale.limit && t->n == t->scale.limit)
        return end(t);
    if (!(t->file ? trace_file_next(t->file, out, &failed) : arrivals_next(t->gen, out))) {
        t->failed = failed;
        return failed ? false : end(t);
    }
    t->failed = !scale_request(t, out);
    out->id = t->n++;
    t->blocks += out->n_hashes;
    t->last_s = out->arrival_s;
    return !t->failed;
}

bool trace_rewind(struct trace *t, double rate)
{
    t->scale.rate = rate;
    t->n = t->blocks = 0;
    t->failed = !scale_ok(&t->scale, t->diag) || (t->file && !trace_file_rewind(t->file));
    if (t->gen)
        arrivals_restart(t->gen);
    return !t->failed;
}

/* --- facts ----------------------------------------------------------------------------------
 */

uint64_t trace_read_bytes(const struct trace *t, uint64_t *total)
{
    *total = t->file ? t->file->lines.total_bytes : 0;
    return t->file ? t->file->lines.read_bytes : 0;
}

uint64_t trace_skipped(const struct trace *t)
{
    return t->file ? t->file->skipped : 0;
}

uint64_t trace_blocks(const struct trace *t)
{
    return t->blocks;
}

bool trace_hashed(const struct trace *t)
{
    return t->file && t->file->format->names[TRACE_HASHES];
}

double trace_last_arrival_s(const struct trace *t)
{
    return t->last_s;
}

const struct trace_format *trace_format(const struct trace *t)
{
    return t->file ? t->file->format : NULL;
}

const char *trace_name(const struct trace *t)
{
    return t->name;
}

void trace_close(struct trace *t)
{
    if (t)
        trace_file_close(t->file);
}

/* The diagnostics sink. Messages live in the arena in the order in which they came; a hash of
 * place and text drops repetitions. At most DIAG_MAX errors and as many others are kept, so a
 * hostile file cannot fill the memory with complaints; the exit status counts them all. */
#include "planner/base/diag.h"

#include <stdint.h>
#include <string.h>

#include "planner/base/utf8.h"

enum { DIAG_MAX = 1000, TEXT_MAX = 1000, SLOTS_FIRST = 64 };

struct diag {
    struct arena *a;
    struct diag_message *m;
    size_t n, cap;
    size_t kept[2]; /* others, errors */
    size_t errors;  /* all of them */
    unsigned kinds; /* bit k: a message of kind k came */
    uint16_t *slot; /* [slots] index + 1 of a message, 0 = free */
    size_t slots;   /* 0 until there is a message: most sinks never get one */
};

struct diag *diag_new(struct arena *a)
{
    struct diag *d = ARENA_NEW(a, struct diag, 1);

    d->a = a;
    return d;
}

static uint32_t mix(uint32_t h, const char *s)
{
    for (; *s; s++) {
        uint64_t wide = (uint64_t)(h ^ (unsigned char)*s) * 16777619u;
        h = (uint32_t)(wide & UINT32_MAX);
    }
    return h;
}

static bool same_file(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

/* The slot of this message, or the free one where it belongs. */
static uint16_t *find(const struct diag *d, struct loc at, const char *text)
{
    uint32_t h = mix(mix(2166136261u, at.file ? at.file : ""), text) ^ (uint32_t)at.line;

    for (size_t i = h % d->slots;; i = (i + 1) % d->slots) {
        const struct diag_message *m;

        if (d->slot[i] == 0)
            return &d->slot[i];
        m = &d->m[d->slot[i] - 1];
        if (m->at.line == at.line && m->at.col == at.col && same_file(m->at.file, at.file) &&
            strcmp(m->text, text) == 0)
            return &d->slot[i];
    }
}

/* Keeps at least half of the slots free. */
static void make_room(struct diag *d)
{
    if (2 * (d->n + 1) <= d->slots)
        return;
    d->slots = d->slots ? 4 * d->slots : SLOTS_FIRST;
    d->slot = ARENA_NEW(d->a, uint16_t, d->slots);
    for (size_t i = 0; i < d->n; i++)
        *find(d, d->m[i].at, d->m[i].text) = (uint16_t)(i + 1);
}

static bool is_error(enum diag_kind k)
{
    return k != DIAG_NOTE && k != DIAG_WARN;
}

static void keep(struct diag *d, enum diag_kind k, struct loc at, const char *text,
                 uint16_t *slot)
{
    if (d->n == d->cap) {
        d->cap = d->cap ? d->cap * 2 : 16;
        d->m = arena_grow(d->a, d->m, d->n, d->cap, sizeof *d->m);
    }
    if (at.file)
        at.file = arena_strdup(d->a, at.file);
    d->m[d->n] = (struct diag_message){.kind = k, .at = at, .text = text};
    d->n++;
    *slot = (uint16_t)d->n;
}

/* One line of harmless UTF-8, cut when it quotes half a file. */
__attribute__((format(printf, 2, 0))) static char *clean_text(struct arena *a, const char *fmt,
                                                              va_list ap)
{
    char *text = arena_vprintf(a, fmt, ap);
    size_t n = strlen(text);

    if (n > TEXT_MAX) {
        n = TEXT_MAX;
        while (n > 0 && ((unsigned char)text[n] & 0xc0) == 0x80)
            n--;
        text[n] = '\0';
        text = arena_printf(a, "%s...", text);
        n += 3;
    }
    utf8_clean(text, n);
    return text;
}

bool diag_add(struct diag *d, enum diag_kind k, struct loc at, const char *fmt, ...)
{
    size_t error = is_error(k);
    const char *text;
    uint16_t *slot;
    va_list ap;

    d->kinds |= 1u << k;
    d->errors += error;
    if (d->kept[error] > DIAG_MAX)
        return !error;
    va_start(ap, fmt);
    text = clean_text(d->a, fmt, ap);
    va_end(ap);
    make_room(d);
    slot = find(d, at, text);
    if (*slot) {
        struct diag_message *m = &d->m[*slot - 1];
        d->errors -= error && is_error(m->kind);
        if (k > m->kind)
            m->kind = k;
        return !error;
    }
    if (d->kept[error]++ == DIAG_MAX) {
        text = error ? "too many errors; the rest is not shown"
                     : "too many warnings and notes; the rest is not shown";
        slot = find(d, (struct loc){0}, text);
        at = (struct loc){0};
    }
    keep(d, k, at, text, slot);
    return !error;
}

size_t diag_count(const struct diag *d)
{
    return d->n;
}

const struct diag_message *diag_at(const struct diag *d, size_t i)
{
    return i < d->n ? &d->m[i] : NULL;
}

size_t diag_errors(const struct diag *d)
{
    return d->errors;
}

bool diag_failed(const struct diag *d)
{
    return d->errors > 0;
}

int diag_exit(const struct diag *d)
{
    static const struct {
        enum diag_kind kind;
        int status;
    } order[] = {
        {DIAG_INTERNAL, 70}, {DIAG_OUTPUT, 7},     {DIAG_INPUT, 3}, {DIAG_DEVICE, 5},
        {DIAG_TOLERANCE, 6}, {DIAG_INFEASIBLE, 4}, {DIAG_USAGE, 2},
    };

    for (size_t i = 0; i < sizeof order / sizeof *order; i++) {
        if (d->kinds & 1u << order[i].kind)
            return order[i].status;
    }
    return 0;
}

const char *diag_severity(enum diag_kind k)
{
    return k == DIAG_NOTE ? "note" : k == DIAG_WARN ? "warning" : "error";
}

static void print_one(const struct diag_message *m, FILE *out)
{
    char file[256];

    snprintf(file, sizeof file, "%s", m->at.file ? m->at.file : "kvbudget");
    utf8_clean(file, strlen(file));
    fputs(file, out);
    if (m->at.file && m->at.line > 0)
        fprintf(out, ":%d", m->at.line);
    if (m->at.file && m->at.line > 0 && m->at.col > 0)
        fprintf(out, ":%d", m->at.col);
    fprintf(out, ": %s: %s\n", diag_severity(m->kind), m->text);
}

size_t diag_print(const struct diag *d, size_t from, bool verbose, FILE *out)
{
    for (size_t i = from; i < d->n; i++) {
        if (d->m[i].kind != DIAG_NOTE || verbose)
            print_one(&d->m[i], out);
    }
    return d->n;
}

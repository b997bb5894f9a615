/* Measured steps: rows sorted into a grid of prompt tokens and decodes, at each place of it a
 * piecewise linear function of the context. */
#include "sim/step_table.h"

#include <stdlib.h>
#include <string.h>

#include "planner/base/ck.h"
#include "sim/line.h"

enum { COLUMNS = 4, LINE_BYTES = 256, MANY_TOKENS = 1 << 30 };
#define CONTEXT_MAX_TOKENS ((uint64_t)1 << 40)

static const char header[] = "prefill_tokens,decodes,context_tokens,seconds";

struct row {
    uint64_t prefill, decodes, context;
    double seconds;
    int line;
};

struct step_table {
    const char *name;
    struct row *rows; /* by prefill, decodes, context */
    uint32_t n_rows, room;
    uint64_t prefill[TABLE_AXIS], decodes[TABLE_AXIS];
    uint32_t n_prefill, n_decodes;
    uint32_t first[TABLE_AXIS][TABLE_AXIS]; /* row of each place; n_rows: there is none */
    double least_s;
};

/* --- reading -------------------------------------------------------------------------------
 */

static bool read_row(const struct lines *l, struct row *r)
{
    const char *at = line_u64(l, l->text, "prefill_tokens", MANY_TOKENS, &r->prefill);

    if (at && *at != ',')
        return line_wrong(l, at, "a comma", "is needed after prefill_tokens");
    at = at ? line_u64(l, at + 1, "decodes", MANY_TOKENS, &r->decodes) : NULL;
    if (at && *at != ',')
        return line_wrong(l, at, "a comma", "is needed after decodes");
    at = at ? line_u64(l, at + 1, "context_tokens", CONTEXT_MAX_TOKENS, &r->context) : NULL;
    if (at && *at != ',')
        return line_wrong(l, at, "a comma", "is needed after context_tokens");
    at = at ? line_real(l, at + 1, "seconds", &r->seconds) : NULL;
    if (!at)
        return false;
    if (*at)
        return line_wrong(l, at, "the end of the line", "is due after seconds");
    if (r->seconds <= 0 || r->seconds > 1e9)
        return line_error(l, l->text, "a step takes more than 0 s");
    r->line = l->line;
    return true;
}

static bool read_rows(struct arena *a, struct lines *l, struct step_table *t)
{
    bool failed = false;

    if (!lines_next(l, &failed))
        return failed ? false
                      : diag_add(l->diag, DIAG_INPUT, (struct loc){.file = l->name},
                                 "is empty; a table of steps starts with %s", header);
    if (strcmp(l->text, header) != 0)
        return line_error(l, l->text, "a table of steps starts with %s", header);
    while (lines_next(l, &failed)) {
        if (l->read_bytes > TABLE_BYTES)
            return line_error(l, l->text, "a table of steps has at most %d bytes", TABLE_BYTES);
        if (t->n_rows == t->room) {
            t->room = t->room ? 2 * t->room : 64;
            t->rows = arena_grow(a, t->rows, t->n_rows, t->room, sizeof *t->rows);
        }
        if (!read_row(l, &t->rows[t->n_rows]))
            return false;
        t->n_rows++;
    }
    if (!failed && !t->n_rows)
        return line_error(l, l->text, "there is no row below the header");
    return !failed;
}

/* --- the grid ------------------------------------------------------------------------------
 */

static int by_place(const void *x, const void *y)
{
    const struct row *a = x, *b = y;

    if (a->prefill != b->prefill)
        return a->prefill < b->prefill ? -1 : 1;
    if (a->decodes != b->decodes)
        return a->decodes < b->decodes ? -1 : 1;
    if (a->context != b->context)
        return a->context < b->context ? -1 : 1;
    return a->line - b->line;
}

/* Adds a value to a sorted axis; false when it is full. */
static bool add_value(uint64_t *axis, uint32_t *n, uint64_t v)
{
    uint32_t i = *n;

    while (i > 0 && axis[i - 1] >= v)
        i--;
    if (i < *n && axis[i] == v)
        return true;
    if (*n == TABLE_AXIS)
        return false;
    memmove(axis + i + 1, axis + i, (*n - i) * sizeof *axis);
    axis[i] = v;
    ++*n;
    return true;
}

static uint32_t index_of(const uint64_t *axis, uint64_t v)
{
    uint32_t i = 0;

    while (axis[i] != v)
        i++;
    return i;
}

static bool same_place(const struct row *a, const struct row *b)
{
    return a->prefill == b->prefill && a->decodes == b->decodes;
}

/* Rows at one place: no context twice, not too many. */
static bool check_rows(const struct step_table *t, struct diag *d)
{
    uint32_t run = 1;

    for (uint32_t i = 1; i < t->n_rows; i++) {
        const struct row *a = &t->rows[i - 1], *b = a + 1;
        struct loc at = {t->name, b->line, 1};
        run = same_place(a, b) ? run + 1 : 1;
        if (run > 1 && a->context == b->context)
            return diag_add(d, DIAG_INPUT, at, "the same step as in line %d", a->line);
        if (run > TABLE_CONTEXTS)
            return diag_add(
                d, DIAG_INPUT, at, "more than %d rows of %llu prefill_tokens and %llu decodes",
                TABLE_CONTEXTS, (unsigned long long)b->prefill, (unsigned long long)b->decodes);
    }
    return true;
}

static bool add_axes(struct step_table *t, struct diag *d)
{
    for (uint32_t i = 0; i < t->n_rows; i++) {
        const struct row *r = &t->rows[i];
        bool prefill = add_value(t->prefill, &t->n_prefill, r->prefill);
        if (prefill && add_value(t->decodes, &t->n_decodes, r->decodes))
            continue;
        return diag_add(d, DIAG_INPUT, (struct loc){t->name, r->line, 1},
                        "more than %d different values of %s", TABLE_AXIS,
                        prefill ? "decodes" : "prefill_tokens");
    }
    return true;
}

static bool fill_grid(struct step_table *t, struct diag *d)
{
    bool ok = true;

    for (uint32_t i = 0; i < t->n_prefill; i++)
        for (uint32_t k = 0; k < t->n_decodes; k++)
            t->first[i][k] = t->n_rows;
    for (uint32_t i = t->n_rows; i > 0; i--) {
        const struct row *r = &t->rows[i - 1];
        t->first[index_of(t->prefill, r->prefill)][index_of(t->decodes, r->decodes)] = i - 1;
        t->least_s = i == t->n_rows || r->seconds < t->least_s ? r->seconds : t->least_s;
    }
    for (uint32_t i = 0; ok && i < t->n_prefill; i++) {
        for (uint32_t k = 0; ok && k < t->n_decodes; k++) {
            if (t->first[i][k] == t->n_rows && (t->prefill[i] || t->decodes[k]))
                ok = diag_add(d, DIAG_INPUT, (struct loc){.file = t->name},
                              "no row of %llu prefill_tokens and %llu decodes: every "
                              "combination of their values is needed",
                              (unsigned long long)t->prefill[i],
                              (unsigned long long)t->decodes[k]);
        }
    }
    return ok;
}

static bool read_table(struct arena *a, struct lines *l, const struct step_table **out)
{
    struct step_table *t = ARENA_NEW(a, struct step_table, 1);

    t->name = l->name;
    if (!read_rows(a, l, t))
        return false;
    qsort(t->rows, t->n_rows, sizeof *t->rows, by_place);
    if (!check_rows(t, l->diag) || !add_axes(t, l->diag) || !fill_grid(t, l->diag))
        return false;
    *out = t;
    return true;
}

bool step_table_read(struct arena *a, const char *path, struct diag *d,
                     const struct step_table **out)
{
    struct lines l;
    bool ok;

    if (!lines_open(a, path, LINE_BYTES, d, &l))
        return false;
    ok = read_table(a, &l, out);
    lines_close(&l);
    return ok;
}

bool step_table_parse(struct arena *a, const char *name, const char *text, size_t bytes,
                      struct diag *d, const struct step_table **out)
{
    struct lines l;

    lines_of_text(a, name, text, bytes, LINE_BYTES, d, &l);
    return read_table(a, &l, out);
}

/* --- interpolation -------------------------------------------------------------------------
 */

struct corner { /* of the cell a step lies in */
    const struct row *rows;
    uint32_t n;
    double weight, level_s; /* n = 0: the same for every context */
};

/* The value that begins the cell and how far into it x lies: past 1 beyond the last. */
static uint32_t cell_of(const uint64_t *axis, uint32_t n, double x, double *far)
{
    uint32_t i = 0;

    *far = 0;
    if (n == 1 || x <= (double)axis[0])
        return 0;
    while (i + 2 < n && x >= (double)axis[i + 1])
        i++;
    *far = (x - (double)axis[i]) / (double)(axis[i + 1] - axis[i]);
    return i;
}

static struct corner corner_of(const struct step_table *t, uint32_t i, uint32_t k,
                               double weight)
{
    struct corner c = {NULL, 0, weight, t->least_s};
    uint32_t first = t->first[i][k];

    if (first == t->n_rows)
        return c;
    c.rows = &t->rows[first];
    while (first + c.n < t->n_rows && same_place(&c.rows[c.n], c.rows))
        c.n++;
    return c;
}

/* Adds a corner's seconds and slope from this context on. */
static void add_corner(const struct corner *c, double context, struct table_place *out)
{
    uint32_t i = 0;
    double seconds = c->n ? c->rows[0].seconds : c->level_s, slope = 0;

    while (i < c->n && (double)c->rows[i].context <= context)
        i++;
    if (i > 0) {
        const struct row *a = &c->rows[i - 1], *b = a + 1;
        double from = (double)a->context;
        seconds = a->seconds;
        if (i < c->n)
            slope = (b->seconds - a->seconds) / (double)(b->context - a->context);
        else if (i > 1)
            slope = (a->seconds - a[-1].seconds) / (double)(a->context - a[-1].context);
        if (i == c->n && slope < 0)
            slope = 0;
        seconds += (context - from) * slope;
    }
    out->seconds += c->weight * seconds;
    out->slope += c->weight * slope;
}

uint32_t step_table_line(const struct step_table *t, double prefill_tokens, double decodes,
                         struct table_place out[TABLE_PLACES])
{
    double p, q;
    uint32_t i = cell_of(t->prefill, t->n_prefill, prefill_tokens, &p), places = 0;
    uint32_t k = cell_of(t->decodes, t->n_decodes, decodes, &q), more = p > 0, much = q > 0;
    struct corner corners[] = {
        corner_of(t, i, k, (1 - p) * (1 - q)),
        corner_of(t, i + more, k, p * (1 - q)),
        corner_of(t, i, k + much, (1 - p) * q),
        corner_of(t, i + more, k + much, p * q),
    };
    uint32_t at[4] = {0, 0, 0, 0};

    for (double context = 0; context >= 0;) {
        double next = -1;
        out[places] = (struct table_place){context, 0, 0};
        for (uint32_t c = 0; c < 4; c++) {
            const struct corner *k4 = &corners[c];
            if (k4->weight == 0)
                continue;
            add_corner(k4, context, &out[places]);
            while (at[c] < k4->n && (double)k4->rows[at[c]].context <= context)
                at[c]++;
            if (at[c] < k4->n && (next < 0 || (double)k4->rows[at[c]].context < next))
                next = (double)k4->rows[at[c]].context;
        }
        places++;
        context = next;
    }
    return places;
}

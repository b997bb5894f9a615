/* The layers of a layout as JSON and as a table in which equal layers share a line. Bytes
 * come from the cost folds, of one row each, so that no formula stands here. */
#include "planner/plan/layers.h"

#include <string.h>

#include "planner/base/table.h"
#include "planner/base/unit.h"

/* --- one stream --------------------------------------------------------------------------- */

struct layer_stream layer_stream_of(const struct problem *p, uint32_t row, struct ck *ck)
{
    const struct layout *l = &p->layout;
    const struct cache_row *r = &l->rows[row], *source = &l->rows[r->source];
    const struct workload *w = &p->workload;
    struct store_class store = {*r, 1};
    struct fold f = {.slice = {1, 1, r->layer, r->layer + 1}, .stores = &store, .n_stores = 1};
    struct layer_stream s = {.row = r};

    if (r->stream == STREAM_STATE) {
        s.state_bytes = shard_state_bytes(r, &l->layers[r->layer].state, 1, ck);
        s.owns = true;
        return s;
    }
    s.reads = source->layer + 1;
    s.reads_group = source->group;
    s.owns = r->readers > 0;
    s.retained_tokens = row_stored_tokens(source, w->prompt, 0);
    if (!s.owns)
        return s;
    s.after_prefill_bytes = fold_resident_bytes(&f, w->prompt, 0, p->block_tokens, ck);
    s.final_bytes = fold_resident_bytes(&f, w->prompt, w->output, p->block_tokens, ck);
    s.token_bytes = fold_token_bytes(&f, false, ck);
    return s;
}

/* --- JSON --------------------------------------------------------------------------------- */

static void add_format(cJSON *o, const struct cache_row *r)
{
    json_text(o, "k_format", r->k_format.name);
    if (r->v_dim)
        json_text(o, "v_format", r->v_format.name);
}

static void add_stream(cJSON *list, const struct layer_stream *s)
{
    const struct cache_row *r = s->row;
    cJSON *o = json_object(list, NULL);

    json_text(o, "stream", stream_name(r->stream));
    json_bool(o, "owns", s->owns);
    if (r->stream == STREAM_STATE) {
        json_u64(o, "state_bytes", s->state_bytes);
        return;
    }
    json_u64(o, "head_group", r->group + 1);
    json_u64(o, "reads_layer", s->reads);
    json_u64(o, "reads_head_group", s->reads_group + 1);
    json_bool(o, "diagonal_masked", r->diagonal_masked);
    json_u64(o, "query_heads", r->q_heads);
    json_u64(o, "kv_heads", r->kv_heads);
    json_u64(o, "stored_heads", s->owns ? r->stored_heads : 0);
    json_u64(o, "k_dim", r->k_dim);
    json_u64(o, "v_dim", r->v_dim);
    add_format(o, r);
    json_u64(o, "window_tokens", r->window_tokens);
    json_u64(o, "store_window_tokens", r->store_window_tokens);
    json_u64(o, "select_tokens", r->select_tokens);
    json_u64(o, "retained_tokens", s->retained_tokens);
    json_bool(o, "ragged", r->keep.ragged);
    json_u64(o, "after_prefill_bytes", s->after_prefill_bytes);
    json_u64(o, "final_bytes", s->final_bytes);
    json_u64(o, "bytes_per_token", s->token_bytes);
}

struct sums {
    uint64_t after_prefill, final, token, state;
};

static void add_to(struct sums *t, const struct layer_stream *s, struct ck *ck)
{
    t->state = ck_add(ck, t->state, s->state_bytes);
    t->after_prefill =
        ck_add(ck, t->after_prefill, ck_add(ck, s->after_prefill_bytes, s->state_bytes));
    t->final = ck_add(ck, t->final, ck_add(ck, s->final_bytes, s->state_bytes));
    t->token = ck_add(ck, t->token, s->token_bytes);
}

static void add_sums(cJSON *o, const struct sums *t)
{
    json_u64(o, "bytes_per_token", t->token);
    json_u64(o, "state_bytes", t->state);
    json_u64(o, "after_prefill_bytes", t->after_prefill);
    json_u64(o, "final_bytes", t->final);
}

static void add_layer(cJSON *list, const struct problem *p, uint32_t layer, struct sums *all,
                      struct ck *ck)
{
    const struct layout *l = &p->layout;
    const struct layer *m = &l->layers[layer];
    cJSON *o = json_object(list, NULL), *streams;
    struct sums mine = {0};

    json_u64(o, "layer", layer + 1);
    json_text(o, "mixer", mixer_name(m->attn.mixer));
    if (m->state.kind != STATE_NONE)
        json_text(o, "state", state_kind_name(m->state.kind));
    json_u64(o, "prefill_passes", l->passes[layer]);
    json_bool(o, "prefill_skipped", layer >= l->exit_layer);
    streams = json_list(o, "streams");
    for (uint32_t i = 0; i < l->n_rows; i++) {
        struct layer_stream s;
        if (l->rows[i].layer != layer)
            continue;
        s = layer_stream_of(p, i, ck);
        add_stream(streams, &s);
        add_to(&mine, &s, ck);
        add_to(all, &s, ck);
    }
    add_sums(o, &mine);
}

cJSON *layers_json(const char *name, const struct problem *p, const struct diag *d)
{
    cJSON *root = json_object(NULL, NULL), *o, *list;
    struct sums all = {0};
    struct ck ck = {0};

    json_text(root, "schema", "kvbudget.layers/1");
    json_text(root, "kvbudget_version", KV_VERSION);
    json_text(root, "spec", name);
    json_text(root, "model", p->model.name ? p->model.name : "inline");
    json_text(root, "sharing", p->layout.sharing);
    json_text(root, "eviction", p->layout.retention);
    json_text(root, "storage", p->layout.storage);
    json_u64(root, "prompt_tokens", p->workload.prompt);
    json_u64(root, "output_tokens", p->workload.output);
    json_u64(root, "block_tokens", p->block_tokens);
    list = json_list(root, "layers");
    for (uint32_t i = 0; i < p->layout.n_layers; i++)
        add_layer(list, p, i, &all, &ck);
    o = json_object(root, "total");
    json_u64(o, "layers", p->layout.n_layers);
    json_u64(o, "kv_layers", layout_kv_layers(&p->layout));
    add_sums(o, &all);
    json_diagnostics(json_list(root, "diagnostics"), d, 0);
    return root;
}

/* --- lines of the table ------------------------------------------------------------------- */

enum {
    COL_LAYERS,
    COL_KIND,
    COL_READS,
    COL_HEADS,
    COL_DIMS,
    COL_FORMAT,
    COL_WINDOW,
    COL_PASSES,
    COL_KEPT,
    COL_BYTES,
    COL_TOKEN,
    N_COLS
};

/* A stream as the table shows it. `reads` stays apart: equal layers may read one layer or
 * layers at one distance. */
struct line {
    uint32_t layer, reads;
    const char *cell[N_COLS];
    bool taken;
};

static const char *sized(struct arena *a, uint64_t bytes)
{
    char buf[32];

    return bytes ? arena_strdup(a, unit_format_bytes(bytes, buf, sizeof buf)) : "-";
}

static const char *counted(struct arena *a, uint64_t n)
{
    char buf[32];

    return n ? arena_strdup(a, unit_format_count(n, buf, sizeof buf)) : "-";
}

static const char *kind_text(struct arena *a, const struct layout *l, const struct cache_row *r)
{
    const char *name;

    if (r->stream == STREAM_STATE)
        return state_kind_name(l->layers[r->layer].state.kind);
    name = r->stream == STREAM_INDEX ? "index" : mixer_name(r->mixer);
    return r->group || (r + 1 < l->rows + l->n_rows && r[1].group)
               ? arena_printf(a, "%s, group %u", name, r->group + 1)
               : name;
}

static const char *format_text(struct arena *a, const struct cache_row *r)
{
    if (!r->v_dim || !strcmp(r->k_format.name, r->v_format.name))
        return r->k_format.name;
    return arena_printf(a, "%s/%s", r->k_format.name, r->v_format.name);
}

static void fill_line(struct arena *a, const struct problem *p, uint32_t row, struct line *out,
                      struct ck *ck)
{
    const struct layout *l = &p->layout;
    struct layer_stream s = layer_stream_of(p, row, ck);
    const struct cache_row *r = s.row;

    *out = (struct line){.layer = r->layer + 1, .reads = s.reads};
    for (int c = 0; c < N_COLS; c++)
        out->cell[c] = "-";
    out->cell[COL_KIND] = kind_text(a, l, r);
    out->cell[COL_PASSES] = arena_printf(a, "%u%s", l->passes[r->layer],
                                         r->layer >= l->exit_layer ? " (last token)" : "");
    if (r->stream == STREAM_STATE) {
        out->cell[COL_BYTES] = sized(a, s.state_bytes);
        return;
    }
    out->cell[COL_HEADS] =
        arena_printf(a, "%u/%u", r->q_heads, s.owns ? r->stored_heads : r->kv_heads);
    out->cell[COL_DIMS] = r->v_dim ? arena_printf(a, "%u+%u", r->k_dim, r->v_dim)
                                   : arena_printf(a, "%u", r->k_dim);
    out->cell[COL_FORMAT] = s.owns ? format_text(a, r) : "-";
    out->cell[COL_WINDOW] = counted(a, r->window_tokens);
    out->cell[COL_KEPT] = counted(a, s.retained_tokens);
    out->cell[COL_BYTES] = sized(a, s.after_prefill_bytes);
    out->cell[COL_TOKEN] = sized(a, s.token_bytes);
}

static bool same_cells(const struct line *a, const struct line *b)
{
    for (int c = COL_KIND; c < N_COLS; c++)
        if (c != COL_READS && strcmp(a->cell[c], b->cell[c]) != 0)
            return false;
    return (a->reads == a->layer) == (b->reads == b->layer) && !a->reads == !b->reads;
}

enum join { JOIN_SOURCE, JOIN_DISTANCE };

static bool joins(const struct line *a, const struct line *b, enum join how)
{
    if (b->taken || !same_cells(a, b))
        return false;
    if (how == JOIN_SOURCE)
        return a->reads == b->reads;
    return (int64_t)a->layer - a->reads == (int64_t)b->layer - b->reads;
}

/* "1-5,7-11,13-17, ... (52)" and "1,3 ... 31 (16)" for layers in ascending order. */
static const char *ranges(struct arena *a, const uint32_t *v, uint32_t n)
{
    enum { RUNS_MAX = 3 };
    const char *s = "";
    uint32_t runs = 0, step = n > 2 ? v[1] - v[0] : 0;

    for (uint32_t i = 2; i < n; i++)
        step = v[i] - v[i - 1] == step ? step : 0;
    if (step > 1)
        return arena_printf(a, "%u,%u ... %u (%u)", v[0], v[1], v[n - 1], n);
    for (uint32_t i = 0; i < n; runs++) {
        uint32_t j = i;
        while (j + 1 < n && v[j + 1] == v[j] + 1)
            j++;
        if (runs == RUNS_MAX)
            return arena_printf(a, "%s ... (%u)", s, n);
        s = j > i ? arena_printf(a, "%s%s%u-%u", s, *s ? "," : "", v[i], v[j])
                  : arena_printf(a, "%s%s%u", s, *s ? "," : "", v[i]);
        i = j + 1;
    }
    return s;
}

static const char *reads_text(struct arena *a, const struct line *l, enum join how, uint32_t n)
{
    if (!l->reads)
        return "-";
    if (l->reads == l->layer)
        return "itself";
    if (how == JOIN_SOURCE || n == 1)
        return arena_printf(a, "%u", l->reads);
    return l->reads < l->layer ? arena_printf(a, "%u below", l->layer - l->reads)
                               : arena_printf(a, "%u above", l->reads - l->layer);
}

static uint32_t count_joins(struct line *lines, uint32_t n, uint32_t i, enum join how)
{
    uint32_t count = 0;

    for (uint32_t j = i; j < n; j++)
        count += joins(&lines[i], &lines[j], how);
    return count;
}

/* Prints line i with all that are like it, and marks them taken. */
static void put_group(struct arena *a, struct table *t, struct line *lines, uint32_t n,
                      uint32_t i)
{
    uint32_t by_source = count_joins(lines, n, i, JOIN_SOURCE);
    enum join how =
        count_joins(lines, n, i, JOIN_DISTANCE) > by_source ? JOIN_DISTANCE : JOIN_SOURCE;
    uint32_t *layers = ARENA_NEW(a, uint32_t, n), count = 0;
    struct line first = lines[i];

    if (first.reads == first.layer)
        how = JOIN_DISTANCE;
    for (uint32_t j = i; j < n; j++) {
        if (!joins(&first, &lines[j], how))
            continue;
        lines[j].taken = true;
        layers[count++] = lines[j].layer;
    }
    first.cell[COL_LAYERS] = ranges(a, layers, count);
    first.cell[COL_READS] = reads_text(a, &first, how, count);
    for (int c = 0; c < N_COLS; c++)
        table_cell(t, first.cell[c]);
}

static void put_lines(struct arena *a, struct table *t, struct line *lines, uint32_t n,
                      bool all)
{
    for (uint32_t i = 0; i < n; i++) {
        if (all) {
            lines[i].cell[COL_LAYERS] = arena_printf(a, "%u", lines[i].layer);
            lines[i].cell[COL_READS] = reads_text(a, &lines[i], JOIN_SOURCE, 1);
            for (int c = 0; c < N_COLS; c++)
                table_cell(t, lines[i].cell[c]);
        } else if (!lines[i].taken) {
            put_group(a, t, lines, n, i);
        }
    }
}

/* --- the drawing -------------------------------------------------------------------------- */

/* One letter a layer. */
static char letter(const struct layout *l, uint32_t layer)
{
    uint32_t row = layout_attention_row(l, layer), source;

    if (row == UINT32_MAX)
        return l->layers[layer].state.kind == STATE_NONE ? '.' : 's';
    source = l->rows[l->rows[row].source].layer;
    if (source != layer)
        return source > layer ? '>' : '<';
    return l->rows[row].store_window_tokens ? 'w' : '#';
}

static void draw_map(const struct layout *l, FILE *out)
{
    enum { PER_LINE = 64 };
    static const char *const legend[] = {
        "# keeps its K/V",       "w keeps a window", "< reads a layer below",
        "> reads a layer above", "s state",          ". neither"};
    const char *letters = "#w<>s.", *sep = "";
    bool seen[6] = {false};

    fputs("\nmap (", out);
    for (uint32_t i = 0; i < l->n_layers; i++)
        seen[strchr(letters, letter(l, i)) - letters] = true;
    for (size_t i = 0; i < 6; i++) {
        if (!seen[i])
            continue;
        fprintf(out, "%s%s", sep, legend[i]);
        sep = ", ";
    }
    fputs(")", out);
    for (uint32_t i = 0; i < l->n_layers; i++) {
        if (i % PER_LINE == 0)
            fprintf(out, "\n%5u  ", i + 1);
        fputc(letter(l, i), out);
    }
    fputc('\n', out);
}

/* --- the table ---------------------------------------------------------------------------- */

void layers_table(struct arena *a, const struct problem *p, bool all, FILE *out)
{
    static const char *const heads[N_COLS] = {"layers", "mixer",         "reads",  "heads q/kv",
                                              "dims",   "format",        "window", "passes",
                                              "keeps",  "after prefill", "a token"};
    const struct layout *l = &p->layout;
    struct line *lines = ARENA_NEW(a, struct line, l->n_rows ? l->n_rows : 1);
    struct table *t = table_new(a, N_COLS);
    char prompt[32];
    struct ck ck = {0};

    for (uint32_t i = 0; i < l->n_rows; i++)
        fill_line(a, p, i, &lines[i], &ck);
    fprintf(
        out,
        "%s: %u layers, %u of %u attention layers keep K/V; sharing %s, eviction %s, stored as %s\n",
        p->model.name ? p->model.name : "inline", l->n_layers, layout_kv_layers(l),
        layout_attention_layers(l), l->sharing, l->retention, l->storage);
    fprintf(
        out, "One sequence, after a prompt of %s tokens: %s; a token more: %s\n\n",
        unit_format_count(p->workload.prompt, prompt, sizeof prompt),
        sized(a, fold_resident_bytes(&p->whole, p->workload.prompt, 0, p->block_tokens, &ck)),
        sized(a, fold_token_bytes(&p->whole, false, &ck)));
    for (int c = 0; c < N_COLS; c++)
        table_cell(t, heads[c]);
    table_rule(t);
    for (int c = COL_WINDOW; c < N_COLS; c++)
        table_right(t, (size_t)c);
    put_lines(a, t, lines, l->n_rows, all);
    table_print(t, out);
    draw_map(l, out);
}

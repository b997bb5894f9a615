/* The resolved layout as the Layers screen draws it: a cell a stream of each layer, the lanes
 * in which owners and their readers are joined, and runs of layers that are alike. */
#ifndef KVBUDGET_TUI_LAYER_MAP_H
#define KVBUDGET_TUI_LAYER_MAP_H

#include "planner/plan/layers.h"

enum { LAYER_LANES = 6 };

/* Layers are 0-based here. */
struct layer_cell {
    uint32_t layer;
    bool first;     /* stream of its layer */
    char letter;    /* '#' keeps, 'w' keeps a window, '<' reads below, '>' above, 's' state, '.'
                       none */
    uint32_t reads; /* layer whose store is read; its own when it keeps */
    const char *mixer, *heads, *dims, *format; /* "" where there is none */
    uint64_t kept_tokens, window_tokens, bytes, token_bytes;
    uint32_t passes;
    bool skipped; /* prefill runs only the last token through it */
};

struct layer_span { /* an owner and all who read it */
    uint32_t owner, lo, hi;
    int lane;
};

struct layer_map {
    const struct layer_cell *cells; /* from the first layer up */
    int n_cells;
    uint32_t n_layers;
    const int *start; /* [n_layers + 1] first cell of each layer */
    const struct layer_span *spans;
    int n_spans, n_lanes;
    uint64_t most_tokens, most_bytes;
};
void layer_map_build(struct arena *a, const struct problem *p, struct layer_map *out);

/* Layers first..last are alike: the same streams, and they read the same layer or one at the
 * same distance. The longest such run that starts at `first`. */
uint32_t layer_map_run(const struct layer_map *m, uint32_t first);

/* What stands in a lane beside layers first..last. */
enum layer_mark { MARK_NONE, MARK_PASSES, MARK_OWNS, MARK_READS_ABOVE, MARK_READS_BELOW };
enum layer_mark layer_map_mark(const struct layer_map *m, int lane, uint32_t first,
                               uint32_t last);

#endif

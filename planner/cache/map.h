/* What the sharing schemes have in common: maps over the attention layers of a model, and
 * the keys of maps that read upward. A scheme fills `to`; nothing here knows of a particular
 * map. */
#ifndef KVBUDGET_PLANNER_CACHE_MAP_H
#define KVBUDGET_PLANNER_CACHE_MAP_H

#include "planner/cache/scheme.h"

/* How prefill iterates where a layer reads a layer above. source: LCKV models/utils.py. */
struct upward {
    uint64_t forward_passes, backward_passes;
    bool sequential;
};

#define UPWARD_FIELDS(S)                                                                       \
    FIELD(S, up.forward_passes, "forward_passes", F_U64, 0, 1000, "7",                         \
          "prefill passes without gradient (m) where a layer reads a layer above"),            \
        FIELD(S, up.backward_passes, "backward_passes", F_U64, 1, 1000, "2",                   \
              "prefill passes with gradient (b)"),                                             \
        FIELD(S, up.sequential, "sequential", F_BOOL, 0, 0, "false",                           \
              "decode prompts of any length token by token instead of iterating")

/* Layers with attention, and for each the place in this list of the layer it reads. Layers
 * without attention (state mixers of hybrid models) are not counted: layer 3 of a scheme is
 * the third layer with attention. */
struct attention_map {
    uint32_t n;
    uint32_t *layers; /* [n] 0-based layers of the model */
    uint32_t *to;     /* [n] 0-based places in `layers`; starts as the identity */
};

/* Refuses a model without attention. */
bool map_begin(const struct scheme_use *use, const struct layout *lay, struct diag *d,
               struct attention_map *out) __attribute__((warn_unused_result));

/* Applies the map, names the pass, and sets `retrofit` where the model as shipped differs.
 * `up` may be NULL. */
bool map_apply(const struct scheme_use *use, const struct attention_map *m,
               const struct upward *up, struct layout *lay, struct diag *d)
    __attribute__((warn_unused_result));

/* The same with a map over the model's layers; UINT32_MAX = a layer without attention. */
bool map_apply_layers(const struct scheme_use *use, const uint32_t *map,
                      const struct upward *up, struct layout *lay, struct diag *d)
    __attribute__((warn_unused_result));

/* kv_layers of a scheme against the attention layers: 1..n. */
bool map_check_layers(const struct scheme_use *use, const struct attention_map *m,
                      uint64_t kv_layers, struct diag *d) __attribute__((warn_unused_result));

/* Where a shared block puts its K/V: first layer, middle (rounded down) or last; from the
 * variant's suffix. */
enum target { TARGET_BOTTOM, TARGET_MIDDLE, TARGET_TOP };
enum target map_target(const char *variant);
uint32_t map_target_of(enum target t, uint32_t first, uint32_t last);

/* The first layer of group k of n layers in l groups, as MLKV's code computes it: in
 * doubles, rounded down. */
uint32_t map_spread(uint32_t n, uint32_t l, uint32_t k);

#endif

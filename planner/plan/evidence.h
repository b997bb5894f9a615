/* Published quality: what papers and reruns report of a scheme, and how far the nearest
 * published setting is from the asked one. Figures are shown as published; nothing is
 * interpolated and nothing is predicted from them. They are data: profiles/evidence/, each
 * row with its source. */
#ifndef KVBUDGET_PLANNER_PLAN_EVIDENCE_H
#define KVBUDGET_PLANNER_PLAN_EVIDENCE_H

#include "planner/plan/json.h"
#include "planner/plan/problem.h"

enum evidence_kind {
    EVIDENCE_QUALITY,
    EVIDENCE_CONTESTED, /* reruns that disagree with a published row */
    EVIDENCE_MEMORY     /* published sizes, batches and speeds */
};

struct evidence_row {
    enum evidence_kind kind;
    const char *scheme; /* of the file: a scheme, or a family of formats */
    const char *model, *metric, *source, *confidence, *note; /* note may be NULL */
    double value, baseline;
    bool higher_is_better, has_baseline;
    const struct doc_node *setting; /* keys as in a spec; `format` names the variant */
};

struct evidence {
    struct evidence_row *rows; /* in the order of the files */
    size_t n;
};

/* All rows of all evidence profiles. A malformed one is a DIAG_INPUT with its place; the
 * others are read all the same. */
bool evidence_load(struct arena *a, const struct profiles *p, struct diag *d,
                   struct evidence *out) __attribute__((warn_unused_result));

/* Whether the row is about this scheme: by the name of its file, or by the format of its
 * setting. Case, '-' and '_' do not matter. */
bool evidence_about(const struct evidence_row *r, const struct scheme_use *use);

/* How far a row's setting is from the asked one: the sum over its keys of |a - b| / max(a,
 * b) for numbers, 0 or 1 for words, 1 where the scheme has no such key; 1 more for each
 * asked number that is not at its default and that the row does not say. 0 = the asked
 * setting. */
double evidence_distance(struct arena *a, const struct evidence_row *r,
                         const struct scheme_use *use);

/* The published model is the planned one: letters and digits of the names agree,
 * organisation and case aside. */
bool evidence_same_model(const struct evidence_row *r, const struct model *m);

struct evidence_near {
    const struct evidence_row *row; /* NULL: nothing is published for this scheme */
    double distance;
    bool same_model;
    size_t contested;    /* rows about this scheme that contest published ones */
    const char *how_far; /* "capacity 128 vs 2048 asked; Llama-3-8B-Instruct, another model" */
};

/* The quality row nearest to a use: by distance, then the same model, then the order of the
 * files. */
struct evidence_near evidence_nearest(struct arena *a, const struct evidence *e,
                                      const struct scheme_use *use, const struct model *m);

/* One row as an object: kind, model, metric, value, baseline, setting, distance, how_far,
 * source, ... */
void evidence_row_json(struct arena *a, const struct evidence_row *r,
                       const struct scheme_use *use, const struct model *m, cJSON *to);

/* What a report says: for each scheme of the plan and each metric the nearest row, and the
 * nearest row of each contesting metric. Rows are appended to `list`; profiles NULL adds
 * none. */
void evidence_json(struct arena *a, const struct problem *p, const struct profiles *profiles,
                   cJSON *list);

#endif

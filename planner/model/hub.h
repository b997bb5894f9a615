/* Models of a hub: the cache that huggingface_hub keeps on disk, and fetching of what a plan
 * needs, which is config.json and the headers of the weight files, never the weights. */
#ifndef KVBUDGET_PLANNER_MODEL_HUB_H
#define KVBUDGET_PLANNER_MODEL_HUB_H

#include "planner/doc/source.h"

/* "ORG/NAME", "ORG/NAME@REVISION", "ORG/NAME/FILE.gguf". */
struct hub_id {
    const char *repo, *revision; /* "main" where none is given */
    const char *file;            /* NULL: the repository as a whole */
};

/* False, without a message, when the text cannot be the id of a repository. */
bool hub_parse(struct arena *a, const char *text, struct hub_id *out);

/* The folder of the repository's files in the local cache, or NULL. Looked for in
 * $HF_HUB_CACHE, else $HF_HOME/hub, else $XDG_CACHE_HOME/huggingface/hub, else
 * ~/.cache/huggingface/hub; models--ORG--NAME/refs/REVISION names the snapshot.
 * source: huggingface_hub docs, "Understand caching". */
const char *hub_cached(struct arena *a, const struct hub_id *id);

/* The repository's files at $HF_ENDPOINT (default https://huggingface.co), with $HF_TOKEN where
 * that is set; $HF_HUB_OFFLINE forbids it. Requests are made when files are opened. */
bool hub_connect(struct arena *a, const struct hub_id *id, struct diag *d, struct store *out)
    __attribute__((warn_unused_result));
void hub_disconnect(struct store *s);

#endif

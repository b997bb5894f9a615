/* Folders, repositories and weight files as models: which of the files count, and in which
 * order. Reading them is left to hf.c, from_safetensors.c and from_gguf.c. */
#include "planner/model/from_store.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>

#include "planner/base/file.h"
#include "planner/model/from_gguf.h"
#include "planner/model/from_safetensors.h"

enum { NAMES_MAX = 1024, NAMES_SHOWN = 3 };

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);

    return n >= m && !strcmp(s + n - m, end);
}

bool is_weight_file(const char *path)
{
    return ends_with(path, ".gguf") || ends_with(path, ".safetensors");
}

static enum store_answer read_json(struct arena *a, struct store *s, const char *file,
                                   struct diag *d, struct doc_node **out)
{
    char *text;
    size_t n;
    enum store_answer answer = store_text(s, a, file, DOC_FILE_MAX, d, &text, &n);

    if (answer == STORE_FOUND &&
        !doc_read_json(a, arena_printf(a, "%s/%s", s->name, file), text, n, true, d, out))
        return STORE_FAILED;
    return answer;
}

/* ModelOpt checkpoints say in a file of its own how they are quantized. */
static bool add_modelopt(struct arena *a, struct store *s, struct diag *d,
                         struct doc_node *config)
{
    struct doc_node *quant;
    enum store_answer answer;

    if (config->kind != DOC_MAP || doc_get(config, "hf_quant_config"))
        return true;
    answer = read_json(a, s, "hf_quant_config.json", d, &quant);
    if (answer != STORE_FOUND)
        return answer == STORE_ABSENT;
    quant->key = "hf_quant_config";
    quant->key_at = quant->at;
    doc_append(config, quant);
    return true;
}

bool model_from_store(struct arena *a, struct store *s, const char *file, const char *name,
                      struct diag *d, struct model *out)
{
    struct doc_node *config;
    enum store_answer answer = read_json(a, s, "config.json", d, &config);
    bool found;

    if (answer == STORE_ABSENT && file)
        return diag_add(d, DIAG_INPUT,
                        (struct loc){.file = arena_printf(a, "%s/%s", s->name, file)},
                        "there is no config.json beside it: its header has the bytes of the "
                        "weights, but not the heads and layers of the model");
    if (answer == STORE_ABSENT)
        return diag_add(d, DIAG_INPUT, (struct loc){.file = s->name},
                        "holds no config.json (a GGUF file is imported by its own name)");
    return answer == STORE_FOUND && add_modelopt(a, s, d, config) &&
           model_from_config(a, config, name, d, out) && model_check(out, d) &&
           model_weights_from_safetensors(a, s, file, d, out, &found);
}

/* --- GGUF files of a folder -----------------------------------------------------------------
 */

static bool is_first_model(const char *name)
{
    uint32_t parts;

    return ends_with(name, ".gguf") && !strstr(name, "mmproj") &&
           (!shard_count(name, &parts) || strstr(name, "-00001-of-"));
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static size_t list_gguf(struct arena *a, const char *path, const char **names)
{
    DIR *dir = opendir(path);
    size_t n = 0;

    for (struct dirent *e = dir ? readdir(dir) : NULL; e && n < NAMES_MAX; e = readdir(dir)) {
        if (is_first_model(e->d_name))
            names[n++] = arena_strdup(a, e->d_name);
    }
    if (dir)
        closedir(dir);
    qsort(names, n, sizeof *names, by_name);
    return n;
}

static bool model_from_gguf_folder(struct arena *a, const char *path, struct diag *d,
                                   struct model *out)
{
    const char **names = ARENA_NEW(a, const char *, NAMES_MAX), *list = "";
    size_t n = list_gguf(a, path, names);
    struct store s = store_folder(path);
    struct loc at = {.file = path};

    if (n == 1)
        return model_from_gguf(a, &s, names[0], d, out);
    for (size_t i = 0; i < n && i < NAMES_SHOWN; i++)
        list = arena_printf(a, "%s%s%s", list, i ? ", " : "", names[i]);
    if (n == 0)
        return diag_add(d, DIAG_INPUT, at, "holds neither a config.json nor a GGUF file");
    return diag_add(d, DIAG_INPUT, at, "holds %zu GGUF files (%s%s): name one of them", n, list,
                    n > NAMES_SHOWN ? ", ..." : "");
}

bool model_from_folder(struct arena *a, const char *path, const char *name, struct diag *d,
                       struct model *out)
{
    struct store s = store_folder(path);
    const char *config = arena_printf(a, "%s/config.json", path);

    if (file_exists(config))
        return model_from_store(a, &s, NULL, name ? name : config, d, out);
    if (!model_from_gguf_folder(a, path, d, out))
        return false;
    out->name = name ? name : out->name;
    return true;
}

bool model_from_weights(struct arena *a, const char *path, const char *name, struct diag *d,
                        struct model *out)
{
    const char *slash = strrchr(path, '/'), *file = slash ? slash + 1 : path;
    const char *folder = slash == path ? "/"
                         : slash       ? arena_strndup(a, path, (size_t)(slash - path))
                                       : ".";
    struct store s = store_folder(folder);
    bool ok;

    if (!file_exists(path))
        return diag_add(d, DIAG_INPUT, (struct loc){.file = path},
                        "cannot be opened: No such file or directory");
    if (ends_with(path, ".safetensors"))
        return model_from_store(a, &s, file, name ? name : path, d, out);
    ok = model_from_gguf(a, &s, file, d, out);
    out->name = name ? name : out->name;
    return ok;
}

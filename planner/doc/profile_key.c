/* What the embedding of profiles and their lookup must agree on: which files are profiles, how
 * they are read, and under which names a profile is found. Kept apart from profile.c, which
 * needs the blob that profiles/embed.c is there to make. */
#include "planner/doc/profile_key.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *folder, *word;
} kinds[PROFILE_KINDS] = {
    [PROFILE_MODEL] = {"models", "model"},
    [PROFILE_GPU] = {"gpus", "GPU"},
    [PROFILE_ENGINE] = {"engines", "engine"},
    [PROFILE_WORKLOAD] = {"workloads", "workload"},
    [PROFILE_EVIDENCE] = {"evidence", "evidence"},
    [PROFILE_EXAMPLE] = {"examples", "example"},
    [PROFILE_SCHEMA] = {"schema", "schema"},
    [PROFILE_MEASURED] = {"measured", "measurement"},
};

const char *profile_folder(enum profile_kind k)
{
    return kinds[k].folder;
}

const char *profile_word(enum profile_kind k)
{
    return kinds[k].word;
}

static char fold(char c)
{
    if (c >= 'A' && c <= 'Z')
        return (char)(c - 'A' + 'a');
    return c == ' ' || c == '_' ? '-' : c;
}

char *profile_fold(struct arena *a, const char *name)
{
    char *s = arena_strdup(a, name);

    for (char *c = s; *c; c++)
        *c = fold(*c);
    return s;
}

int profile_compare(const char *key, const char *name)
{
    while (*key && *key == fold(*name)) {
        key++;
        name++;
    }
    return (unsigned char)*key - (unsigned char)fold(*name);
}

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);

    return n > m && strcmp(s + n - m, end) == 0;
}

static bool is_profile(enum profile_kind k, const char *file)
{
    if (file[0] == '.')
        return false;
    if (k != PROFILE_SCHEMA && ends_with(file, ".yaml"))
        return true;
    return (k == PROFILE_SCHEMA || k == PROFILE_MEASURED) && ends_with(file, ".json");
}

static int by_text(const void *x, const void *y)
{
    return strcmp(*(char *const *)x, *(char *const *)y);
}

char **profile_files(struct arena *a, enum profile_kind k, const char *folder, size_t *n)
{
    size_t cap = 64;
    char **files = ARENA_NEW(a, char *, cap);
    DIR *dir = opendir(folder);

    *n = 0;
    if (!dir)
        return files;
    for (struct dirent *e = readdir(dir); e; e = readdir(dir)) {
        if (!is_profile(k, e->d_name))
            continue;
        if (*n == cap) {
            files = arena_grow(a, files, cap, cap * 2, sizeof *files);
            cap *= 2;
        }
        files[(*n)++] = arena_strdup(a, e->d_name);
    }
    closedir(dir);
    qsort(files, *n, sizeof *files, by_text);
    return files;
}

/* Organisations cannot be spelled with '/' in file names: "Qwen__Qwen3-8B.yaml" is
 * Qwen/Qwen3-8B. */
char *profile_stem(struct arena *a, enum profile_kind k, const char *file)
{
    const char *dot = strrchr(file, '.');
    char *stem = arena_strndup(a, file, dot ? (size_t)(dot - file) : strlen(file));
    char *gap = k == PROFILE_MODEL ? strstr(stem, "__") : NULL;

    if (gap && gap != stem && gap[2] != '\0') {
        gap[0] = '/';
        memmove(gap + 1, gap + 2, strlen(gap + 2) + 1);
    }
    return stem;
}

enum { STREAM_MAX = 64 };

bool profile_parse(struct arena *a, const char *label, const char *text, size_t n,
                   struct diag *d, struct doc_node **out)
{
    struct doc_node *stream[STREAM_MAX];
    bool example = strstr(label, "examples/") != NULL; /* a spec may be a stream */
    size_t count = 0;

    if (ends_with(label, ".json"))
        return doc_read_json(a, label, text, n, false, d, out);
    if (!doc_read_yaml(a, label, text, n, d, stream, example ? STREAM_MAX : 1, &count))
        return false;
    *out = stream[0];
    if (!count)
        return diag_add(d, DIAG_INPUT, (struct loc){label, 0, 0}, "an empty profile");
    return true;
}

static void add_key(struct arena *a, struct profile_keys *keys, const char *name, struct loc at,
                    bool bare)
{
    const char *text = profile_fold(a, name);

    for (size_t i = 0; i < keys->n; i++) {
        if (strcmp(keys->v[i].text, text) == 0) {
            keys->v[i].bare = keys->v[i].bare && bare;
            return;
        }
    }
    keys->v[keys->n++] = (struct profile_key){text, at, bare};
}

static void add_name(struct arena *a, enum profile_kind k, struct profile_keys *keys,
                     const char *name, struct loc at)
{
    const char *slash = k == PROFILE_MODEL ? strrchr(name, '/') : NULL;

    add_key(a, keys, name, at, false);
    if (slash && slash[1] != '\0')
        add_key(a, keys, slash + 1, at, true);
}

/* One name or alias: a scalar with text in it. */
static bool name_text(const struct doc_node *n, const char *what, struct diag *d)
{
    if (n->kind == DOC_SCALAR && n->text[0] != '\0')
        return true;
    return diag_add(d, DIAG_INPUT, n->at, "%s must be a text", what);
}

bool profile_keys(struct arena *a, enum profile_kind k, const char *stem,
                  const struct doc_node *doc, struct diag *d, struct profile_keys *out)
{
    bool named = doc && k != PROFILE_EXAMPLE && k != PROFILE_SCHEMA;
    const struct doc_node *name = named ? doc_get(doc, "name") : NULL;
    const struct doc_node *aliases = named ? doc_get(doc, "aliases") : NULL;
    bool ok = true;

    *out = (struct profile_keys){.name = stem};
    out->v = ARENA_NEW(a, struct profile_key, 2 + 2 * (aliases ? aliases->n : 0));
    if (name) {
        if (!name_text(name, "'name'", d))
            return false;
        out->name = name->text;
    }
    add_name(a, k, out, out->name, name ? name->at : (struct loc){NULL, 0, 0});
    if (!aliases || doc_is_null(aliases))
        return true;
    if (aliases->kind != DOC_LIST)
        return diag_add(d, DIAG_INPUT, aliases->at, "'aliases' must be a list of texts");
    for (const struct doc_node *n = aliases->first; n; n = n->next) {
        if (!name_text(n, "an alias", d))
            ok = false;
        else
            add_name(a, k, out, n->text, n->at);
    }
    return ok;
}

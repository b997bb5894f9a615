/* Lookup of profiles: a user's folders first, then a binary search in the blob. A folder is
 * looked at on the first lookup of its kind; its files are parsed then, since their names stand
 * inside. */
#include "planner/doc/profile.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "planner/base/file.h"
#include "planner/doc/profile_key.h"

struct user_file {
    const char *path, *text;
    size_t size;
    struct profile_keys keys;
    const char *stem;           /* folded */
    const struct doc_node *doc; /* NULL: not read, or not readable */
    bool unreadable;
};

struct user_kind {
    bool scanned;
    struct user_file *files;
    size_t n;
};

struct cache {
    struct user_kind user[PROFILE_KINDS];
    const struct doc_node **builtin; /* by file */
};

enum { DIRS_MAX = 2 };

struct profiles {
    struct arena *a;
    const char *dirs[DIRS_MAX];
    size_t n_dirs;
    struct cache *cache;
};

static const char *blob(uint32_t offset)
{
    return (const char *)builtin_profiles.bytes + offset;
}

struct profiles *profiles_open(struct arena *a, const char *user_dir, struct diag *d)
{
    struct profiles *p = ARENA_NEW(a, struct profiles, 1);
    const char *xdg = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
    const char *config = NULL;

    p->a = a;
    p->cache = ARENA_NEW(a, struct cache, 1);
    p->cache->builtin = ARENA_NEW(a, const struct doc_node *, builtin_profiles.n_files + 1);
    if (user_dir && file_is_dir(user_dir))
        p->dirs[p->n_dirs++] = user_dir;
    else if (user_dir)
        diag_add(d, DIAG_INPUT, (struct loc){user_dir, 0, 0}, "no such folder of profiles");
    if (xdg && xdg[0] == '/')
        config = arena_printf(a, "%s/kvbudget/profiles", xdg);
    else if (home && home[0] == '/')
        config = arena_printf(a, "%s/.config/kvbudget/profiles", home);
    if (config && file_is_dir(config))
        p->dirs[p->n_dirs++] = config;
    return p;
}

/* Reads one user file as far as its names. A broken one keeps the name of its file, with a
 * warning; its errors come out when it is asked for. */
static void scan_file(const struct profiles *p, enum profile_kind k, const char *file,
                      struct user_file *u, struct diag *d)
{
    struct diag *scratch = diag_new(p->a);
    struct doc_node *doc = NULL;
    const char *stem = profile_stem(p->a, k, file);
    char *text = NULL;

    u->stem = profile_fold(p->a, stem);
    if (file_read(p->a, u->path, DOC_FILE_MAX, scratch, &text, &u->size)) {
        u->text = text;
        if (k == PROFILE_EXAMPLE || k == PROFILE_SCHEMA ||
            profile_parse(p->a, u->path, text, u->size, scratch, &doc))
            u->doc = doc;
    }
    if (!diag_failed(scratch) && profile_keys(p->a, k, stem, doc, scratch, &u->keys))
        return;
    u->doc = NULL;
    u->unreadable = true;
    if (!profile_keys(p->a, k, stem, NULL, scratch, &u->keys))
        return;
    for (size_t i = 0; i < diag_count(scratch); i++) {
        const struct diag_message *m = diag_at(scratch, i);
        if (m->kind != DIAG_NOTE && m->kind != DIAG_WARN) {
            diag_add(d, DIAG_WARN, m->at, "profile left out: %s", m->text);
            return;
        }
    }
}

static const struct user_kind *user_files(const struct profiles *p, enum profile_kind k,
                                          struct diag *d)
{
    struct user_kind *u = &p->cache->user[k];

    if (u->scanned)
        return u;
    u->scanned = true;
    for (size_t i = 0; i < p->n_dirs; i++) {
        const char *folder = arena_printf(p->a, "%s/%s", p->dirs[i], profile_folder(k));
        size_t n = 0;
        char **files = profile_files(p->a, k, folder, &n);

        u->files = arena_grow(p->a, u->files, u->n, u->n + n + 1, sizeof *u->files);
        for (size_t j = 0; j < n; j++) {
            struct user_file *f = &u->files[u->n++];
            f->path = arena_printf(p->a, "%s/%s", folder, files[j]);
            scan_file(p, k, files[j], f, d);
        }
    }
    return u;
}

static bool has_name(const struct user_file *f, const char *name)
{
    for (size_t i = 0; i < f->keys.n; i++)
        if (profile_compare(f->keys.v[i].text, name) == 0)
            return true;
    return profile_compare(f->stem, name) == 0;
}

static struct user_file *find_user(const struct profiles *p, enum profile_kind k,
                                   const char *name, struct diag *d)
{
    const struct user_kind *u = user_files(p, k, d);

    for (size_t i = 0; i < u->n; i++)
        if (has_name(&u->files[i], name))
            return &u->files[i];
    return NULL;
}

/* The first key of the blob that is not below {kind, name}. */
static size_t lower_bound(enum profile_kind k, const char *name)
{
    const struct builtin_profiles *b = &builtin_profiles;
    size_t lo = 0, hi = b->n_keys;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        const struct builtin_key *key = &b->keys[mid];
        bool below = key->kind != (uint32_t)k ? key->kind < (uint32_t)k
                                              : profile_compare(blob(key->text), name) < 0;
        if (below)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static bool find_builtin(enum profile_kind k, const char *name, uint32_t *file)
{
    const struct builtin_profiles *b = &builtin_profiles;
    size_t i = lower_bound(k, name);

    if (i == b->n_keys || b->keys[i].kind != (uint32_t)k ||
        profile_compare(blob(b->keys[i].text), name) != 0)
        return false;
    *file = b->keys[i].file;
    return true;
}

static const struct doc_node *read_builtin(const struct profiles *p, uint32_t file,
                                           struct diag *d)
{
    const struct builtin_file *f = &builtin_profiles.files[file];
    const struct doc_node **slot = &p->cache->builtin[file];
    struct doc_node *doc = NULL;

    if (!*slot && profile_parse(p->a, blob(f->label), blob(f->text), f->size, d, &doc))
        *slot = doc;
    return *slot;
}

/* Reads a user file again for its messages, or for the first time (examples, schemas). */
static const struct doc_node *read_user(const struct profiles *p, enum profile_kind k,
                                        struct user_file *f, struct diag *d)
{
    struct doc_node *doc = NULL;
    struct profile_keys keys;
    char *text = NULL;
    size_t size = 0;

    if (f->doc)
        return f->doc;
    if (!file_read(p->a, f->path, DOC_FILE_MAX, d, &text, &size) ||
        !profile_parse(p->a, f->path, text, size, d, &doc) ||
        !profile_keys(p->a, k, f->stem, doc, d, &keys))
        return NULL;
    if (!f->unreadable)
        f->doc = doc;
    return doc;
}

const struct doc_node *profile_find(const struct profiles *p, enum profile_kind k,
                                    const char *name, struct diag *d)
{
    struct user_file *f;
    uint32_t file;

    name = name ? name : "";
    f = find_user(p, k, name, d);
    if (f)
        return read_user(p, k, f, d);
    return find_builtin(k, name, &file) ? read_builtin(p, file, d) : NULL;
}

bool profile_has(const struct profiles *p, enum profile_kind k, const char *name,
                 struct diag *d)
{
    uint32_t file;

    name = name ? name : "";
    return find_user(p, k, name, d) || find_builtin(k, name, &file);
}

const char *profile_text(const struct profiles *p, enum profile_kind k, const char *name,
                         struct diag *d, size_t *n)
{
    struct user_file *f;
    char *text = NULL;
    uint32_t file;

    name = name ? name : "";
    f = find_user(p, k, name, d);
    if (f && f->text) {
        *n = f->size;
        return f->text;
    }
    if (f) /* for the message */
        return file_read(p->a, f->path, DOC_FILE_MAX, d, &text, n) ? text : NULL;
    if (!find_builtin(k, name, &file))
        return NULL;
    *n = builtin_profiles.files[file].size;
    return blob(builtin_profiles.files[file].text);
}

static int by_name(const void *x, const void *y)
{
    const struct profile_entry *a = x, *b = y;
    int c = strcmp(a->name, b->name);

    return c ? c : strcmp(a->file, b->file);
}

/* Whether a user's file found before this one, or any for a builtin one, hides the name. */
static bool hidden(const struct user_kind *u, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (has_name(&u->files[i], name))
            return true;
    return false;
}

struct profile_entry *profile_list(const struct profiles *p, enum profile_kind k,
                                   struct arena *a, struct diag *d, size_t *n)
{
    const struct user_kind *u = user_files(p, k, d);
    struct profile_entry *list =
        ARENA_NEW(a, struct profile_entry, u->n + builtin_profiles.n_files + 1);

    *n = 0;
    for (size_t i = 0; i < u->n; i++) {
        const struct user_file *f = &u->files[i];
        if (!f->unreadable && !hidden(u, i, f->keys.v[0].text))
            list[(*n)++] = (struct profile_entry){f->keys.name, f->path, true};
    }
    for (size_t i = 0; i < builtin_profiles.n_files; i++) {
        const struct builtin_file *f = &builtin_profiles.files[i];
        const char *name = blob(f->name);
        if (f->kind == (uint32_t)k && !hidden(u, u->n, name))
            list[(*n)++] = (struct profile_entry){name, blob(f->label), false};
    }
    qsort(list, *n, sizeof *list, by_name);
    return list;
}

/* --- what is not there -----------------------------------------------------------------------
 */

struct unknown { /* a name that nothing has */
    struct arena *a;
    const struct profiles *p;
    enum profile_kind k;
    struct diag *d;
};

/* All names under which something of this kind is found. */
static const char **all_keys(const struct unknown *x, size_t *n)
{
    const struct user_kind *u = user_files(x->p, x->k, x->d);
    size_t first = lower_bound(x->k, ""), total = builtin_profiles.n_keys - first;
    const char **names;

    for (size_t i = 0; i < u->n; i++)
        total += u->files[i].keys.n;
    names = ARENA_NEW(x->a, const char *, total + 1);
    *n = 0;
    for (size_t i = 0; i < u->n; i++)
        for (size_t j = 0; j < u->files[i].keys.n; j++)
            names[(*n)++] = u->files[i].keys.v[j].text;
    for (size_t i = first; i < builtin_profiles.n_keys; i++)
        if (builtin_profiles.keys[i].kind == (uint32_t)x->k)
            names[(*n)++] = blob(builtin_profiles.keys[i].text);
    return names;
}

/* Up to three names that begin like the word, for words too far from any: " 'a', 'b'", or
 * "". */
static const char *alike(const struct unknown *x, const char *word)
{
    size_t n = 0, found = 0, length = strcspn(word, "-/.");
    const struct profile_entry *list = profile_list(x->p, x->k, x->a, x->d, &n);
    const char *text = "";

    if (length < 2)
        return text;
    for (size_t i = 0; i < n && found < 3; i++) {
        if (strncmp(profile_fold(x->a, list[i].name), word, length) != 0)
            continue;
        text = arena_printf(x->a, "%s%s '%s'", text, found ? "," : "", list[i].name);
        found++;
    }
    return text;
}

/* A folded key as its profile's name or alias spells it. */
static const char *spelled(const struct unknown *x, const char *key)
{
    const struct doc_node *doc = key ? profile_find(x->p, x->k, key, x->d) : NULL,
                          *name = doc_get(doc, "name"), *aliases = doc_get(doc, "aliases");

    if (name && name->kind == DOC_SCALAR && !profile_compare(key, name->text))
        return name->text;
    for (const struct doc_node *c = aliases ? aliases->first : NULL; c; c = c->next)
        if (c->kind == DOC_SCALAR && !profile_compare(key, c->text))
            return c->text;
    return key;
}

static void say_unknown(const struct unknown *x, const char *name, struct loc at)
{
    const char *key = profile_fold(x->a, name), *near, *some;
    size_t n = 0;
    const char **names = all_keys(x, &n);

    near = spelled(x, doc_nearest(key, names, n));
    some = near ? "" : alike(x, key);
    if (near)
        diag_add(x->d, DIAG_INPUT, at, "unknown %s '%s'; did you mean '%s'?",
                 profile_word(x->k), name, near);
    else if (some[0] != '\0')
        diag_add(x->d, DIAG_INPUT, at, "unknown %s '%s'; known:%s", profile_word(x->k), name,
                 some);
    else
        diag_add(x->d, DIAG_INPUT, at,
                 "unknown %s '%s'; 'kvbudget list %s' shows the known ones", profile_word(x->k),
                 name, profile_folder(x->k));
}

const struct doc_node *profile_require(const struct profiles *p, enum profile_kind k,
                                       const char *name, struct loc at, struct diag *d)
{
    struct unknown x = {NULL, p, k, d};

    name = name ? name : "";
    if (profile_has(p, k, name, d))
        return profile_find(p, k, name, d);
    x.a = arena_new();
    say_unknown(&x, name, at);
    arena_free(x.a);
    return NULL;
}

/* Runs a fuzz target over files, and over the files of folders, so that the corpora are checked
 * with any compiler and sanitizer. Reports one TAP line a file. */
#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "tests/fuzz/fuzz.h"

static bool run_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    uint8_t *data = NULL, *exact;
    size_t n = 0, cap = 0, got;

    if (!f)
        return false;
    do {
        if (n == cap) {
            cap = cap ? cap * 2 : 4096;
            data = realloc(data, cap);
            if (!data)
                abort();
        }
        got = fread(data + n, 1, cap - n, f);
        n += got;
    } while (got > 0);
    fclose(f);
    exact = malloc(n ? n : 1); /* no spare byte, so that reading too far is seen */
    if (!exact)
        abort();
    memcpy(exact, data, n);
    LLVMFuzzerTestOneInput(exact, n);
    free(exact);
    free(data);
    return true;
}

static void report(const char *path, int *count)
{
    printf("%s %d - %s\n", run_file(path) ? "ok" : "not ok", ++*count, path);
    fflush(stdout);
}

static void run_folder(const char *folder, int *count)
{
    struct dirent **names = NULL;
    int n = scandir(folder, &names, NULL, alphasort);

    for (int i = 0; i < n; i++) {
        char path[4096];

        snprintf(path, sizeof path, "%s/%s", folder, names[i]->d_name);
        if (names[i]->d_name[0] != '.')
            report(path, count);
        free(names[i]);
    }
    free(names);
}

int main(int argc, char **argv)
{
    int count = 0;

    for (int i = 1; i < argc; i++) {
        struct stat st;

        if (stat(argv[i], &st) == 0 && S_ISDIR(st.st_mode))
            run_folder(argv[i], &count);
        else
            report(argv[i], &count);
    }
    printf("1..%d\n", count);
    return 0;
}

/* Refuses to remove or rename a file that this process has open, as Windows and some file systems do. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int refused(int folder, const char *path) {
    struct stat wanted, found;
    if (fstatat(folder, path, &wanted, AT_SYMLINK_NOFOLLOW) || !S_ISREG(wanted.st_mode))
        return 0;
    for (int descriptor = 3; descriptor < 256; descriptor++)
        if (!fstat(descriptor, &found) && found.st_dev == wanted.st_dev && found.st_ino == wanted.st_ino) {
            errno = EBUSY;
            return 1;
        }
    return 0;
}

int unlinkat(int folder, const char *path, int flags) {
    return refused(folder, path) ? -1 : syscall(SYS_unlinkat, folder, path, flags);
}

int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }

int rename(const char *source, const char *target) {
    if (refused(AT_FDCWD, source) || refused(AT_FDCWD, target))
        return -1;
    return syscall(SYS_renameat2, AT_FDCWD, source, AT_FDCWD, target, 0);
}

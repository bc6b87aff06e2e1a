/* Runs a program under the seccomp filter of rules.h, the way a container's runtime does it: no new
 * privileges, the filter, exec. The filter is kept by what the program starts. rules.h is written by
 * tests/integration/support/cage.rs from a profile as Kubernetes takes it. Knows no profile. */
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#define HERE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define HERE AUDIT_ARCH_AARCH64
#else
#error "the profile has no such machine"
#endif

#define LOAD(at) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, at)
#define RETURN(what) BPF_STMT(BPF_RET | BPF_K, what)
#define IF(value, skip) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, skip)
#define NUMBER offsetof(struct seccomp_data, nr)
/* The lower half: both machines have it first, and all that is compared is an int or flags. */
#define ARGUMENT(n) (offsetof(struct seccomp_data, args) + 8 * (n))

#define RULE(call, action) IF(call, 1), RETURN(action),
#define RULE_WHERE(call, argument, mask, value, action)                                           \
    IF(call, 5), LOAD(ARGUMENT(argument)), BPF_STMT(BPF_ALU | BPF_AND | BPF_K, mask),             \
        IF(value, 1), RETURN(action), LOAD(NUMBER),

static struct sock_filter filter[] = {
    LOAD(offsetof(struct seccomp_data, arch)),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, HERE, 1, 0),
    RETURN(SECCOMP_RET_KILL_PROCESS),
    LOAD(NUMBER),
#include "rules.h"
};

int main(int argc, char **argv) {
    struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
    if (argc < 2) return 2;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
        || syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) != 0) {
        perror("no filter");
        return 1;
    }
    execv(argv[1], argv + 1);
    perror(argv[1]);
    return 1;
}

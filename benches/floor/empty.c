// SPDX-License-Identifier: Apache-2.0
/* A program that does nothing: what exec to exit costs in static C, with libc's start-up and without. */
#ifdef FREESTANDING
__asm__(".globl _start\n_start:\n\txor %edi, %edi\n\tmov $231, %eax\n\tsyscall"); /* exit_group(0) */
#else
int main(void) { return 0; }
#endif

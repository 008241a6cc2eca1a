#include "server/openapi.h"

/* The assembler reads the file itself: no step of its own, and nothing generated. */
__asm__(".section .rodata\n"
        ".globl openapi_text\n"
        "openapi_text:\n"
        ".incbin \"server/openapi.json\"\n"
        ".globl openapi_end\n"
        "openapi_end:\n"
        ".byte 0\n"
        ".previous\n");

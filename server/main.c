#include <stdio.h>

int main(void)
{
    fprintf(stderr, "chorus: no command yet\n");
    return 2;
}

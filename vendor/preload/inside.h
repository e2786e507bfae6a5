/* Whether the program has a llama.cpp that genarm cannot enter. */
#pragma once

#include <stdbool.h>

/* Whether the program has llama.cpp's samplers linked into itself, or has opened a libllama. */
bool holds_llama_cpp(void);

//! Against llama.cpp's own templates, which `scripts/test-peers` fetches: calls and thoughts of its families.

mod families;

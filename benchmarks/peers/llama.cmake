# Read at the start of llama-cpp-python's project: the package uses none of
# llama.cpp's own tools, whose common library is half of what is compiled. A
# plain variable stands before the cached one that the project sets.
set(LLAMA_BUILD_COMMON OFF)

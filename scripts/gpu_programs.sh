# Sourced by the gpu_*.sh scripts: where a program lies, in the build folder or the unpacked bundle $bin.
program() {
    local at
    for at in "$bin/$1" "$bin/bin/$1" "$bin/tests/gpu/$1" "$bin/tests/$1"; do
        [ -f "$at" ] && [ -x "$at" ] && echo "$at" && return
    done
    echo "$bin/$1"
}

# Prompts go through libcublas. Where it is only part of a Python package (PyTorch's), the loader is told.
loader=${LD_LIBRARY_PATH:-}
if ! { ldconfig -p; ls ${loader//:/ }; } 2>/dev/null | grep -qE 'libcublas\.so\.1[23]'; then
    cublas=$(python3 - 2>/dev/null <<'EOF'
import glob, os, site
roots = site.getsitepackages() + [site.getusersitepackages()] + glob.glob("/usr/local/cuda*/") + glob.glob("/opt/*/lib/python3*/site-packages")
found = [f for r in roots for p in ("nvidia/*/lib", "lib64", "targets/*/lib") for v in ("13", "12")
         for f in glob.glob(os.path.join(r, p, "libcublas.so." + v))]
print(os.path.dirname(max(found, key=lambda f: f.endswith("13")))) if found else None
EOF
    )
    if [ -n "$cublas" ]; then
        echo "libcublas: $cublas"
        export LD_LIBRARY_PATH=$cublas${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
    else
        echo "libcublas is not found: prompts take the kernels for few rows"
    fi
fi

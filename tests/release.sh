#!/usr/bin/env bash
# What a release has to pass: sdist and wheel of what is committed, their contents, and the fast tests
# against the wheel alone, in an environment of its own. Prints the text of the tag; it neither tags
# nor uploads.
# Usage: release.sh [DIR]
#
# DIR (build/release) is made anew and takes about 8 GB. PYTHON names the interpreter (python3).
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
dir=${1:-build/release}
fail() {
    printf 'release: %s\n' "$*" >&2
    exit 1
}
# The part of CHANGELOG.md below the heading that begins with $1, without comments.
changes() {
    awk -v heading="## $1" '
        /^## / { inside = index($0 " ", heading " ") == 1; next }
        inside && /<!--/ { comment = 1 }
        inside && !comment { print }
        /-->/ { comment = 0 }' CHANGELOG.md | sed -e '/./,$!d'
}

version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' lnqtools/__init__.py)
[ -z "$(git status --porcelain)" ] || fail "commit what was changed first: git status"
[ -z "$(git tag --list "v$version")" ] || fail "v$version is tagged: lnqtools/__init__.py needs the next version"
[ -z "$(changes Unreleased)" ] || fail "CHANGELOG.md has unreleased changes: they belong to $version, or to no release"
[ -n "$(changes "$version")" ] || fail "CHANGELOG.md says nothing of $version"

rm -rf "$dir"
mkdir -p "$dir"
dir=$(realpath "$dir")
# What is committed, and no file that an older build left.
mkdir "$dir/source"
git archive HEAD | tar -x -C "$dir/source"
"$python" -m venv "$dir/tools"
"$dir/tools/bin/python" -m pip install --quiet build twine 'setuptools>=77'
"$dir/tools/bin/python" -m build --no-isolation --outdir "$dir/dist" "$dir/source" >"$dir/build.log" 2>&1 ||
    fail "the build failed: $dir/build.log"
"$dir/tools/bin/twine" check --strict "$dir/dist"/*
wheel=$(echo "$dir/dist/lnq_tools-$version"-*.whl)
sdist=$dir/dist/lnq_tools-$version.tar.gz

tracked() { git ls-files -- "$@" | LC_ALL=C sort; }
tar -tzf "$sdist" | sed -e 's,^[^/]*/,,' -e '/\/$/d; /^$/d; /^PKG-INFO$/d; /^lnq_tools.egg-info\//d' |
    LC_ALL=C sort | diff <(tracked) - || fail "the sdist is not what git has (< git, > sdist)"
"$python" -m zipfile -l "$wheel" | awk 'NR > 1 { print $1 }' >"$dir/wheel.txt"
grep '^lnqtools/' "$dir/wheel.txt" | LC_ALL=C sort | diff <(tracked lnqtools) - ||
    fail "the wheel is not what git has in lnqtools (< git, > wheel)"
sed -n 's,.*\.data/data/share/.*/,,p' "$dir/wheel.txt" | LC_ALL=C sort |
    diff <(tracked man completions | sed 's,.*/,,' | LC_ALL=C sort) - ||
    fail "the wheel's share/ has other man pages or completions than git (< git, > wheel)"

"$python" -m venv "$dir/venv"
"$dir/venv/bin/python" -m pip install --quiet --no-compile --constraint constraints.txt "${wheel}[all,test]"
(cd / && "$dir/venv/bin/lnq" --version && "$dir/venv/bin/lnq" --json >"$dir/lnq.json")
# The sdist's tests, beside the package as the wheel installed it.
tar -xzf "$sdist" -C "$dir"
cd "$dir/lnq_tools-$version"
rm -r lnqtools
ln -s "$dir"/venv/lib/python3*/site-packages/lnqtools lnqtools
PATH=$dir/venv/bin:$PATH CI=1 "$dir/venv/bin/python" -m pytest -q -m "not slow" \
    --numprocesses "${WORKERS:-2}" --dist worksteal -p no:cacheprovider
cd - >/dev/null

{
    printf 'lnqtools %s\n\n' "$version"
    changes "$version" | sed 's/^### //'
} >"$dir/tag.txt"
cat "$dir/tag.txt"
printf '\nIt holds: %s\nNeither tagged nor uploaded:\n  git tag --annotate v%s --file %q\n  twine upload %q/*\n' \
    "$dir/dist" "$version" "$dir/tag.txt" "$dir/dist"

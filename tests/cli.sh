#!/bin/bash
# The command as a user types it: exit codes, messages, files, and the promise that a run that was broken off ends as one that
# was not.
cd "$(dirname "$0")/.." || exit 2
build=${BUILD:-build}
case $build in /*) ;; *) build=$PWD/$build ;; esac
nabla=$build/nabla
work=$build/cli.test
rm -rf "$work"
mkdir -p "$work" && cd "$work" || exit 2
passed=0 failed=0
unset NABLA_KERNELS NABLA_PASSES
export LC_ALL=C

ok() { # ok NAME COMMAND...: the command must succeed
    local name=$1
    shift
    if "$@" >/dev/null 2>&1; then passed=$((passed + 1)); else
        failed=$((failed + 1))
        echo "not ok: $name"
    fi
}
same() { # same NAME WANTED FOUND
    if [ -n "$2" ] && [ "$2" = "$3" ]; then passed=$((passed + 1)); else
        failed=$((failed + 1))
        printf 'not ok: %s\n    wanted: %s\n    found:  %s\n' "$1" "$2" "$3"
    fi
}
says() { # says CODE TEXT ARGUMENTS...: nabla exits with CODE, and its messages hold TEXT
    local code=$1 text=$2 found
    shift 2
    out=$(timeout 60 "$nabla" "$@" 2>err </dev/null)
    found=$?
    if [ $found = "$code" ] && grep -qF -- "$text" err <(echo "$out"); then passed=$((passed + 1)); else
        failed=$((failed + 1))
        printf 'not ok: nabla %s\n    wanted: exit %s, "%s"\n    found:  exit %s\n' "$*" "$code" "$text" $found
        { echo "$out"; cat err; } | head -n 5 | sed 's/^/    /'
    fi
}
digest() { sed -n 's/.*"digest": "\([0-9a-f]*\)".*/\1/p'; }

# A small data set: 8x8 images whose class is the place of a bright stripe, with noise.
cat >idx.c <<'END'
#include <stdio.h>
#include <stdlib.h>
static unsigned state = 1;
static unsigned noise(void) { return (state = state * 1664525u + 1013904223u) >> 16; }
static void number(FILE *f, unsigned n) { for (int i = 24; i >= 0; i -= 8) fputc((int)(n >> i & 255), f); }
static void part(const char *folder, const char *name, unsigned n, unsigned classes) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s-images-idx3-ubyte", folder, name);
    FILE *images = fopen(path, "wb");
    snprintf(path, sizeof path, "%s/%s-labels-idx1-ubyte", folder, name);
    FILE *labels = fopen(path, "wb");
    if (!images || !labels) exit(1);
    number(images, 0x803), number(images, n), number(images, 8), number(images, 8);
    number(labels, 0x801), number(labels, n);
    for (unsigned i = 0; i < n; i++) {
        fputc((int)(i % classes), labels);
        for (unsigned p = 0; p < 64; p++) fputc((int)((p / 8 == 2 * (i % classes) ? 60 : 0) + noise() % 190), images);
    }
    if (fclose(images) || fclose(labels)) exit(1);
}
int main(int argc, char **argv) {
    if (argc != 4) return 2;
    part(argv[1], "train", (unsigned)atoi(argv[2]), (unsigned)atoi(argv[3]));
    part(argv[1], "t10k", 120, (unsigned)atoi(argv[3]));
    return 0;
}
END
gcc -O1 idx.c -o idx && mkdir d && ./idx d 960 4 || { echo "0 passed, 1 failed"; exit 1; }
net='conv 4 3 pad=1, batchnorm, relu, dropout 0.2, flatten, linear 4'
train() { says "$1" "$2" train --data d --net "$net" "${@:3}"; }

# ---- help, words, versions
says 0 'nabla train --data fashion-mnist' help
for command in train eval draw summary profile ops gradcheck version help; do
    says 0 "usage: nabla $command" help $command
    says 0 "usage: nabla $command" $command --help
done
says 0 'batchnorm' help net
says 0 'kernels' version
says 0 'oneDNN' --version
says 0 '421,834' summary cnn
says 0 '818,176' summary gpt-s
says 0 '64x256' summary lstm
says 0 '20x32' summary 'embedding 100 16, lstm 32' --input 20
says 2 'an item is a row of whole numbers' summary 'embedding 100 16, lstm 32'
says 2 'did you mean gpt-s' summary gpt
says 0 '1x8x8' summary "$net" --input 1,8,8

says 0 'saved by values that share their place' summary "$net" --input 1,8,8 --memory --batch 1
says 0 'memory of a step with 64 items' summary gpt-s --memory
says 2 'a loss needs one number for each class' summary 'conv 4 3' --memory

# ---- profiles
says 0 'at the peaks they would take' profile "$net" --input 1,8,8 --batch 8 --steps 3 --threads 2
says 0 'conv2d_weight_grad' profile "$net" --input 1,8,8 --batch 8 --steps 3 --rows 0
says 0 'a call of the trained form, batch 1, 1 thread' profile mlp --infer --batch 1 --steps 2
says 0 '"mode": "infer"' profile mlp --infer --batch 1 --steps 2 --json
says 0 'embedding' profile 'embedding 7 8, linear 3' --input 5 --batch 2 --steps 2 --rows 0
if ! grep -qaE '__(asan|tsan)_init' "$nabla"; then # these take all addresses for themselves
    unlimited=$(ulimit -S -v)
    ulimit -S -v 400000
    says 2 'try a smaller --batch' summary cnn --memory --batch 2048
    ulimit -S -v "$unlimited"
fi
says 2 'a loss needs one number for each class' profile 'conv 4 3' --steps 2
says 2 'give a whole number' profile mlp --steps 0
says 2 'leave --input out' profile d --input 3
says 0 'matmul' ops
says 0 'samples' ops matmul softmax
says 0 ' passed, 0 failed' gradcheck relu --order 1
says 2 "did you mean 'train'" trian
says 2 "did you mean 'max_pool2d'" ops maxpool
says 2 "there is no operator" gradcheck nothing
says 2 'did you mean --epochs' train --data d --net cnn --epoch 3
says 2 'did you mean --optimizer' train --data d --net cnn --optimiser adam
says 2 'unknown option -z' train -z
says 2 'did you mean --batch?' train --batch-size 3
says 2 'did you mean --lr?' train --learning-rate 3
says 2 "'$nabla help' lists all" nonsense-that-is-no-command
ln -s "$nabla" 'my nabla' # commands to type are those that were typed
says 0 't10k-labels-idx1-ubyte' help train
says 2 'nothing to check: argmax has no derivative' gradcheck argmax
says 2 'nothing to check: none' gradcheck argmax equal
NABLA_PASSES=foo says 2 'is none of' gradcheck tanh
same 'an unknown pass is told once' 1 "$(cat err <(echo "$out") | grep -c foo)"
says 2 'one word too many' train d
says 2 'a net is missing' summary
says 2 'a net is missing' profile

# ---- options
says 2 '--data is missing' train --net cnn
says 2 '--net is missing' train --data d
train 2 'give a whole number from 1' -e 0
train 2 'give a whole number from 1' -e 2.5
train 2 'give a whole number from 1' --batch=
train 2 'give a number from' --lr nan
train 2 'give a number from' --lr -1
train 2 'did you mean adam?' --optimizer adamm
train 2 'did you mean one-cycle?' --schedule onecycle
train 2 'DIR is missing after it' --out --json
train 2 'takes no value' --json=yes
train 2 'only 880 training images' -b 881
says 2 'did you mean fashion-mnist' train --data fashion-mnst --net cnn
says 2 'there is no such folder' train --data nowhere --net cnn
says 2 'is a file' train --data idx.c --net cnn
says 2 'did you mean cnn' train --data d --net cmn
says 2 'there is no file' train --data d --net my.net
says 2 'there is no file' train --data d --net run2/my
says 2 "put flatten before it" train --data d --net 'linear 4'
says 2 "did you mean 'linear'" train --data d --net 'flatten, linaer 4'
says 2 'has 4 classes' train --data d --net 'flatten, linear 5'
NABLA_KERNELS=fast says 2 'fast' version
ok 'no folder was made by all this' test ! -e run

# ---- folders
train 2 'is a file' -o idx.c
train 2 'is a file' -o idx.c/run
train 2 'cannot make the folder' -o /proc/nowhere/run
says 2 'to go on with' train --resume nowhere
says 2 'holds no run' train --resume d
says 2 'is a file' train --resume idx.c

# ---- a run, its files, its results
train 0 'test accuracy ' -e 3 -q -o a
same 'last line' "$(echo "$out" | tail -n 1)" "$(echo "$out" | grep -Ex 'test accuracy [01]\.[0-9]{4}')"
same 'nothing on stderr with -q' 0 "$(stat -c %s err)"
for file in model.safetensors checkpoint settings.json history.csv loss.svg net.svg; do ok "$file" test -s a/$file; done
same 'rows of history.csv' 4 "$(wc -l <a/history.csv)"
same 'no other files' 6 "$(find a -type f | wc -l)"
accuracy=$(echo "$out" | tail -n 1)
train 2 'holds a run already' -o a
train 2 '--resume a' -o a
says 2 'cannot come with --resume' train --resume a -e 4
says 0 "$accuracy" train --resume a
says 0 "$accuracy" eval a
says 0 "$accuracy" eval a/model.safetensors --data d -t 1
says 0 '"accuracy"' eval a --json
NABLA_PROFILE=1 says 0 'scoring a batch' eval a
NABLA_PROFILE=1 train 0 'validating a batch' -e 1 -q -o profiled
same 'the profile is no result' 0 "$(echo "$out" | grep -c GFLOP)"
says 0 'conv2d' profile a --infer --steps 2
says 2 'there is no saved net' eval nowhere
says 2 'not a safetensors file' eval idx.c
says 0 'linear' summary a
train 0 '"digest"' -e 3 --json -o a --force
same 'one line of JSON' 1 "$(echo "$out" | wc -l)"
for key in accuracy loss seconds images_per_second steps resumed_step digest; do
    ok "$key in JSON" grep -q "\"$key\": " <(echo "$out")
done
ok 'three plain lines of progress' test "$(grep -c '^epoch [123]/3  loss ' err)" = 3
wanted=$(echo "$out" | digest)
train 0 "$wanted" -e 3 --json -q -o t1 -t 1
train 0 "$wanted" -e 3 --json -q -o t4 -t 4
train 0 "$wanted" -e 3 --json -q -o file --net <(printf '%s\n' "$net") 2>/dev/null
printf '# a net\n%s\n' "${net//, /$'\n'}" >my.net
says 0 '"digest"' train --data d --net my.net -e 1 --json -q -o mine
train 0 '"digest"' -e 3 --json -q -o s1 -s 1
ok 'another seed, another digest' test "$(echo "$out" | digest)" != "$wanted"
for schedule in step exp cosine one-cycle; do train 0 'test accuracy' --schedule $schedule -e 2 -q -o o --force; done
for optimizer in sgd momentum nesterov rmsprop adagrad adamw; do
    train 0 'test accuracy' --optimizer $optimizer --weight-decay 1e-3 --l1 1e-4 -e 1 -q -o o --force
done

# ---- NaN
train 1 'NaN or infinity' --lr 1e30 -o nan
train 1 'with --force it replaces' --lr 1e30 -o nan --force
says 1 'linear' train --data d --net 'flatten, linear 16 name=first, relu, linear 4' --lr 1e30 -o nan --force

# ---- broken off and gone on with
long() { timeout 100 "$nabla" train --data d --net "$net" -e 40 --json -q "$@" 2>/dev/null; }
wanted=$(long -o whole | digest)
for every in 5 100000; do # steps between checkpoints: a few; an epoch's end comes first
    rm -rf k
    kills=0
    for try in 1 2 3 4 5 6; do
        if [ -e k/settings.json ]; then
            set -- train --resume k -t $((try % 2 + 1))
        else
            set -- train --data d --net "$net" -e 40 --save-every $every -o k
        fi
        "$nabla" "$@" --json -q >out 2>/dev/null &
        pid=$!
        sleep "0.$((RANDOM % 4))$((RANDOM % 10))"
        kill -9 $pid 2>/dev/null && kills=$((kills + 1))
        wait $pid 2>/dev/null
    done
    same "digest after $kills kills" "$wanted" "$(timeout 60 "$nabla" train --resume k --json -q 2>/dev/null | digest)"
    same 'no temporary files are left' 6 "$(find k -type f | wc -l)"
done
"$nabla" train --data d --net "$net" -e 100000 -o c -q >out 2>err &
pid=$!
for _ in $(seq 100); do [ -e c/checkpoint ] && break; sleep 0.05; done
says 2 'another nabla is training' train --resume c
kill -INT $pid
wait $pid
same 'exit code of Ctrl-C' 130 $?
ok 'the command to go on' grep -q 'nabla train --resume c' err
same 'nothing on stdout after Ctrl-C' 0 "$(stat -c %s out)"
rm -rf c
"$nabla" train --data d --net "$net" -e 40 -o c -q >out 2>err &
pid=$!
for _ in $(seq 100); do [ -e c/checkpoint ] && break; sleep 0.02; done
kill -TERM $pid
wait $pid
code=$?
ok 'stopped or just finished' test $code = 130 -o $code = 0
same 'digest after a stop' "$wanted" "$(timeout 60 "$nabla" train --resume c --json -q -t 4 | digest)"
"$nabla" train --data d --net "$net" -e 40 -o b -q >out 2>err & # before the first checkpoint: settings.json alone
pid=$!
for _ in $(seq 200); do [ -e b/settings.json ] && break; sleep 0.01; done
kill -9 $pid
wait $pid 2>/dev/null
rm -f b/checkpoint b/model.safetensors
same 'digest from settings.json alone' "$wanted" "$(timeout 60 "$nabla" train --resume b --json -q | digest)"
cp -r c broken
head -c 1000 c/checkpoint >broken/checkpoint
says 2 'checkpoint' train --resume broken
printf 'garbage' >broken/checkpoint
says 2 'checkpoint' train --resume broken
rm broken/checkpoint
echo '{"epochs": 3' >broken/settings.json
says 2 'settings.json' train --resume broken
echo '{"epochs": "many"}' >broken/settings.json
says 2 'settings.json' train --resume broken
dd if=/dev/zero of=a/model.safetensors bs=1 seek=2000 count=1 conv=notrunc 2>/dev/null
printf '\377' | dd of=a/model.safetensors bs=1 seek=2001 count=1 conv=notrunc 2>/dev/null
says 2 'model.safetensors' eval a --data d

# ---- what stands in the way of a run, and the way out
train 0 'digest' -e 1 -q -o 'my run'
out=$('./my nabla' train --data d --net "$net" -o 'my run' 2>&1)
ok 'a command for the shell' grep -qF "'./my nabla' train --resume 'my run'" <(echo "$out")
ok 'and it works' bash -c "'./my nabla' train --resume 'my run'"
cp 'my run/settings.json' before
NABLA_PASSES=foo train 2 'is none of' -o 'my run' --force
NABLA_PASSES=foo train 2 'is none of' -o never
ok 'a folder is made last' test ! -e never
ok 'the old run stands' cmp before 'my run/settings.json'
rm 'my run/model.safetensors'
says 0 'it is gone' train --resume 'my run'
says 2 'but it is gone' eval 'my run'
says 2 'but it is gone' draw 'my run'
mkdir new
says 2 'first epoch' eval new
says 2 'leave --input out' draw a --input 3 -o no.svg
says 2 'leave --input out' summary a/model.safetensors --input 3
mkdir -p no-picture/loss.svg no-history/history.csv
train 0 'test accuracy' -e 1 -q -o no-picture
ok 'a remark about the picture' grep -q 'picture is missing' err
train 2 'history.csv' -e 1 -q -o no-history --save-every 5
ok 'how to go on after a full disk' grep -q 'then go on: .*nabla train --resume no-history' err
rmdir no-history/history.csv
printf garbage >c/checkpoint
says 2 'remove it, and --resume begins again from settings.json' train --resume c
rm c/checkpoint
cp -r d moved
says 2 'there is no such folder' train --resume no-history --data d/nowhere
mkdir moved-away && mv d moved-away/
says 2 'there is no such folder' train --resume no-history
says 0 'test accuracy' train --resume no-history --data moved
mv moved-away/d d
"$nabla" train --data d --net "$net" -e 100000 -o half -q >out 2>err &
pid=$!
for _ in $(seq 200); do [ -e half/checkpoint ] && break; sleep 0.02; done
kill -INT $pid
wait $pid
ok 'an answer to Ctrl-C' grep -q 'stopping; saving the state' err
printf '\001\000' | dd of=moved/train-labels-idx1-ubyte bs=1 seek=8 conv=notrunc 2>/dev/null # two labels change places
says 2 'put the old data back' train --resume half --data moved

# ---- wrong data: a message, exit 2, and no folder
bad() { # bad NAME TEXT COMMAND: the command spoils the copy of the data set that it runs in
    rm -rf bad
    cp -r d bad
    (cd bad && eval "$3")
    says 2 "$2" train --data bad --net "$net" -o never
    ok "$1: nothing written" test ! -e never
}
images=train-images-idx3-ubyte labels=train-labels-idx1-ubyte
bad 'missing images' 'train-images' "rm $images"
bad 'missing test labels' 't10k-labels' 'rm t10k-labels-idx1-ubyte'
bad 'empty' "$images" ": >$images"
bad 'cut in the header' "$images" "truncate -s 10 $images"
bad 'cut in the data' "$images" "truncate -s 30000 $images"
bad 'too long' "$labels" "echo more >>$labels"
bad 'garbage' "$images" "head -c 5000 /dev/urandom | sed '1s/^/x/' >$images"
bad 'the wrong magic number' "$images" "cp t10k-labels-idx1-ubyte $images"
bad 'a header that lies' "$images" "printf '\\377\\377\\377\\377' | dd of=$images bs=1 seek=4 conv=notrunc 2>/dev/null"
bad 'counts that differ' 'labels' 'cp t10k-labels-idx1-ubyte train-labels-idx1-ubyte'
bad 'a label out of range' 'label' "printf '\\310' | dd of=t10k-labels-idx1-ubyte bs=1 seek=20 conv=notrunc 2>/dev/null"
bad 'a gzip file that is none' "$images" "mv $images $images.gz"
bad 'a gzip file that is cut' "$images" "gzip $images; truncate -s 20000 $images.gz"
bad 'a damaged gzip file' "$images" "gzip $images; printf 'xxxx' | dd of=$images.gz bs=1 seek=9000 conv=notrunc 2>/dev/null"
bad 'images of two sizes' '8x8' \
    "printf '\\0\\0\\0\\004\\0\\0\\0\\020' | dd of=t10k-images-idx3-ubyte bs=1 seek=8 conv=notrunc 2>/dev/null"
rm -rf good
cp -r d good
gzip good/*
says 0 'test accuracy' train --data good --net "$net" -e 1 -q -o good-run
bad 'files with dots' 'hyphen' "mv $images train-images.idx3-ubyte"
bad 'a damaged label' 'training label 255 at item 12, but only the labels 0 to 3 occur otherwise' \
    "printf '\377' | dd of=$labels bs=1 seek=20 conv=notrunc 2>/dev/null"
says 2 'training label 255 at item 12' train --data bad --net mlp -o never
bad 'labels with gaps' 'no item has label 4' "printf '\006\007' | dd of=$labels bs=1 seek=20 conv=notrunc 2>/dev/null"
bad 'a damaged test label' 'test label 200 at item 12' \
    "printf '\310' | dd of=t10k-labels-idx1-ubyte bs=1 seek=20 conv=notrunc 2>/dev/null"
says 2 'but the net knows 4 classes' eval good-run --data bad
mkdir one && ./idx one 96 1
says 2 'at least two classes are needed' train --data one --net "$net" -o never
mkdir two && ./idx two 2 2
says 2 'there is only 1 training image ' train --data two --net "$net" -o never
says 2 'leave it out' train --data d --net 'flatten, linear 4, softmax' -o never
says 2 'leave it out' train --data d --net 'flatten, linear 4, log_softmax' -o never
ok 'nothing written for all these' test ! -e never
says 2 'has images; this command trains nets for images' train --data d --net gpt-s -e 1 -o text
says 2 'cannot take an image' train --data d --net 'embedding 9 4, flatten, linear 4' -e 1 -o text
says 0 'linear 128, relu, linear 4' train --data d --net mlp -e 1 -o preset
says 0 'test accuracy' eval preset
same 'the fitted net is kept' 1 "$(grep -c 'linear 128, relu, linear 4' preset/settings.json)"
if [ -d /usr/share/datasets/fashion-mnist ]; then
    ln -s /usr/share/datasets/fashion-mnist fashion
    says 0 'test accuracy' train --data fashion --net 'maxpool 4, flatten, linear 10' -e 1 -b 500 -q -o fashion-run
    ok 'names of its classes by any path' grep -qa trouser fashion-run/model.safetensors
fi

# ---- pictures
says 0 'cnn.svg' draw cnn -o cnn.svg
says 0 'gpt.svg' draw gpt-s -o gpt.svg
says 0 'lstm.dot' draw lstm --ops -o lstm.dot
ok 'a picture' grep -q '</svg>' cnn.svg
says 0 'ops.dot' draw mlp --ops -o ops.dot
says 0 'a.svg' draw c -o a.svg
says 0 'neurons.svg' draw 'linear 4, tanh, linear 1' --input 2 --neurons -o neurons.svg
says 2 'too wide' draw mlp --neurons -o neurons.svg
says 2 'must end with' draw cnn -o cnn.gif
says 2 'choose one' draw cnn --ops --neurons
says 0 'program.svg' draw mlp --program -o program.svg
ok 'the picture of a program' grep -q 'point of no return' program.svg
says 0 'trained.dot' draw cnn --program --infer --batch 1 -o trained.dot
says 2 '--infer goes with --program' draw cnn --infer
says 2 'choose one' draw cnn --ops --program
mkdir empty
PATH=$work/empty "$nabla" draw cnn -o missing.svg 2>err
same 'drawing without graphviz' 2 $?
ok 'names graphviz' grep -q 'apt install graphviz' err
ok 'the source instead' test -s missing.dot
ok 'no picture' test ! -e missing.svg
PATH=$work/empty "$nabla" train --data d --net "$net" -e 1 -q -o plain >out 2>err
same 'training without graphviz and gnuplot' 0 $?
ok 'names the package' grep -q gnuplot-nox err
ok 'sources instead of pictures' test -s plain/loss.gp -a -s plain/net.dot
"$nabla" version >/dev/full 2>err
same 'a full disk behind stdout' 2 $?

cd "$build" && rm -rf "$work"
echo "$passed passed, $failed failed"
[ $failed = 0 ]

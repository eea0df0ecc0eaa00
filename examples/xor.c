/* xor.c: the smallest net that needs a hidden layer, with nothing of the library's nn part: operators, derivatives and assigns.
 *
 *     h = tanh(x W1^T + b1)      x [4,2]   W1 [4,2]   b1 [4]
 *     z = h W2^T + b2            W2 [1,4]  b2 [1]
 *     p = 1 / (1 + e^-z)         the net's belief that the answer is 1
 *     loss = mean of log(1 + e^z) - t z = mean of -log p(right answer)
 *
 * Each step moves every weight against its derivative: w <- w - rate dloss/dw. */
#include <nabla.h>

#include <stdio.h>

static const float questions[4][2] = {{0, 0}, {0, 1}, {1, 0}, {1, 1}}, answers[4][1] = {{0}, {1}, {1}, {0}};

int main(void) {
    nb_context *nb = nb_open(&(nb_options){.on_error = nb_die, .seed = 1});
    nb_tensor  *x = nb_input(nb, "x", NB_F32, nb_shape(4, 2)), *t = nb_input(nb, "t", NB_F32, nb_shape(4, 1));
    nb_set(x, questions, sizeof questions);
    nb_set(t, answers, sizeof answers);

    nb_tensor *w1 = nb_param(nb, "w1", nb_normal(nb, NB_F32, nb_shape(4, 2), 0, 1));
    nb_tensor *b1 = nb_param(nb, "b1", nb_zeros(nb, NB_F32, nb_shape(4)));
    nb_tensor *w2 = nb_param(nb, "w2", nb_normal(nb, NB_F32, nb_shape(1, 4), 0, 1));
    nb_tensor *b2 = nb_param(nb, "b2", nb_zeros(nb, NB_F32, nb_shape(1)));

    nb_tensor *z = nb_linear(nb_tanh(nb_linear(x, w1, b1)), w2, b2);
    nb_tensor *loss = nb_mean(nb_sub(nb_softplus(z), nb_mul(t, z)), nb_axes(), false);

    /* The program: the loss, and one assign a weight. Assigns happen last, so that all derivatives see the old weights. */
    nb_list w = nb_list_of(nb, w1, b1, w2, b2), g = nb_grads(loss, NULL, w), roots = nb_list_new(nb, 1 + w.n);
    roots.at[0] = loss;
    for (int i = 0; i < w.n; i++) roots.at[1 + i] = nb_assign(w.at[i], nb_sub(w.at[i], nb_mul(nb_number(nb, 0.5), g.at[i])));
    nb_program *train = nb_compile(nb, roots), *predict = nb_compile(nb, nb_list_of(nb, nb_sigmoid(z)));

    for (int step = 1; step <= 1000; step++) {
        if (!nb_run(train)) return 1;
        if (step % 200 == 0) printf("step %4d  loss %.4f\n", step, nb_item(nb_output(train, 0)));
    }

    if (!nb_run(predict)) return 1;
    const float *p = nb_data(nb_output(predict, 0));
    int          right = 0;
    for (int i = 0; i < 4; i++) {
        printf("%g xor %g = %.2f\n", (double)questions[i][0], (double)questions[i][1], (double)p[i]);
        right += (p[i] > 0.5f) == (answers[i][0] > 0.5f);
    }
    printf("xor: %d of 4 right\n", right);
    nb_close(nb);
    return right == 4 ? 0 : 1;
}

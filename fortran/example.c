/* Print the emissivity of sea ice at 19 GHz (version 2) and its derivatives:
 *   gfortran -O2 -c seaice_emissivity.f90 seaice_emissivity_c.f90
 *   gcc -O2 example.c seaice_emissivity*.o -lgfortran -lm -o example && ./example emissivity.coef */
#include <stdio.h>
#include <stdlib.h>
#include "seaice_emissivity.h"

int main(int argc, char **argv) {
  void *model;
  char message[512];
  int n_properties, n;
  if (seaice_emissivity_open(argc > 1 ? argv[1] : "", &model, message, sizeof message)) {
    fprintf(stderr, "%s\n", message);
    return 1;
  }
  seaice_emissivity_sizes(model, &n_properties, &n);
  if (n == 0) n = 2; /* any channels: 19 GHz, vertical and horizontal */
  double *frequency = malloc(n * sizeof(double)), *vertical = malloc(n * sizeof(double));
  double *properties = calloc(n_properties + 1, sizeof(double)), *e = malloc(n * sizeof(double));
  double *k = malloc(n * (1 + n_properties) * sizeof(double));
  for (int i = 0; i < n; i++) {
    frequency[i] = 19.0;
    vertical[i] = i == 0;
  }
  int status = seaice_emissivity_evaluate(model, 250.0, properties, 55.0, n, frequency, vertical, e, k);
  for (int i = 0; i < n && status == 0; i++) {
    printf("%.8f", e[i]);
    for (int j = 0; j <= n_properties; j++) printf(" %.8f", k[i * (1 + n_properties) + j]);
    printf("\n");
  }
  seaice_emissivity_close(model);
  return status;
}

/* Emissivity of sea ice from a coefficient file of seaice_lab: C interface of the Fortran module,
 * which explains the arguments of a point. Functions return 0 after success and never stop the
 * program. After seaice_emissivity_open, threads may share a model. */
#ifndef SEAICE_EMISSIVITY_H
#define SEAICE_EMISSIVITY_H
#ifdef __cplusplus
extern "C" {
#endif

/* Read a coefficient file into *model; after an error, message[length] says what is wrong. */
int seaice_emissivity_open(const char *path, void **model, char *message, int length);

/* Free a model. */
void seaice_emissivity_close(void *model);

/* Number of properties, and number of channels: version 1 needs n = n_fixed_channels; 0 means that
 * the model takes any channels (version 2). */
void seaice_emissivity_sizes(const void *model, int *n_properties, int *n_fixed_channels);

/* Emissivity e[n], and its Jacobian k[n][1 + n_properties] with respect to the skin temperature
 * (1/K), then to each property. */
int seaice_emissivity_evaluate(const void *model, double tsfc, const double *properties,
                               double zenith, int n, const double *frequency,
                               const double *vertical, double *e, double *k);

/* Tangent linear: e[n], and its change d_e[n] for changes of skin temperature and properties. */
int seaice_emissivity_tangent(const void *model, double tsfc, const double *properties,
                              double zenith, int n, const double *frequency,
                              const double *vertical, double d_tsfc, const double *d_properties,
                              double *e, double *d_e);

/* Adjoint: adds to *ad_tsfc and ad_properties the gradient of sum(ad_e * e). */
int seaice_emissivity_adjoint(const void *model, double tsfc, const double *properties,
                              double zenith, int n, const double *frequency,
                              const double *vertical, const double *ad_e, double *ad_tsfc,
                              double *ad_properties);

#ifdef __cplusplus
}
#endif
#endif

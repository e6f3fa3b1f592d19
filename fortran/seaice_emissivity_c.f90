! C interface of seaice_emissivity; seaice_emissivity.h describes its functions.
module seaice_emissivity_c
  use, intrinsic :: iso_c_binding
  use seaice_emissivity
  implicit none
  private

contains

  integer(c_int) function open_model(path, handle, message, length) &
      bind(c, name='seaice_emissivity_open') result(status)
    character(kind=c_char), intent(in) :: path(*)
    type(c_ptr), intent(out) :: handle
    character(kind=c_char), intent(out) :: message(*)
    integer(c_int), value, intent(in) :: length
    type(emissivity_model), pointer :: model
    character(:), allocatable :: name
    character(1024) :: text
    integer :: i, result_status

    name = ''
    do i = 1, 4096
      if (path(i) == c_null_char) exit
      name = name//path(i)
    end do
    allocate(model)
    call read_coefficients(name, model, result_status, text)
    status = int(result_status, c_int)
    handle = c_loc(model)
    if (status /= 0) then
      deallocate(model)
      handle = c_null_ptr
    end if
    do i = 1, min(len_trim(text), length - 1)
      message(i) = text(i:i)
    end do
    if (length > 0) message(min(len_trim(text), length - 1) + 1) = c_null_char
  end function open_model

  subroutine close_model(handle) bind(c, name='seaice_emissivity_close')
    type(c_ptr), value, intent(in) :: handle
    type(emissivity_model), pointer :: model
    if (.not. c_associated(handle)) return
    call c_f_pointer(handle, model)
    deallocate(model)
  end subroutine close_model

  subroutine sizes(handle, n_properties, n_fixed_channels) bind(c, name='seaice_emissivity_sizes')
    type(c_ptr), value, intent(in) :: handle
    integer(c_int), intent(out) :: n_properties, n_fixed_channels
    type(emissivity_model), pointer :: model
    call c_f_pointer(handle, model)
    n_properties = int(model%n_properties, c_int)
    n_fixed_channels = int(merge(0, size(model%channel_name), model%network == 'frequency'), c_int)
  end subroutine sizes

  integer(c_int) function evaluate(handle, tsfc, properties, zenith, n, frequency, vertical, &
      e, k) bind(c, name='seaice_emissivity_evaluate') result(status)
    type(c_ptr), value, intent(in) :: handle
    real(c_double), value, intent(in) :: tsfc, zenith
    real(c_double), intent(in) :: properties(*), frequency(*), vertical(*)
    integer(c_int), value, intent(in) :: n
    real(c_double), intent(out) :: e(*)
    real(c_double), target, intent(out) :: k(*) ! [channel][variable] of C
    type(emissivity_model), pointer :: model
    real(c_double), pointer :: jacobian(:, :)
    integer :: m, result_status
    call c_f_pointer(handle, model)
    m = model%n_properties
    call c_f_pointer(c_loc(k), jacobian, [1 + m, n])
    call emissivity_k(model, tsfc, properties(:m), zenith, frequency(:n), vertical(:n), e(:n), &
                      jacobian, result_status)
    status = int(result_status, c_int)
  end function evaluate

  integer(c_int) function tangent(handle, tsfc, properties, zenith, n, frequency, vertical, &
      d_tsfc, d_properties, e, d_e) bind(c, name='seaice_emissivity_tangent') result(status)
    type(c_ptr), value, intent(in) :: handle
    real(c_double), value, intent(in) :: tsfc, zenith, d_tsfc
    real(c_double), intent(in) :: properties(*), frequency(*), vertical(*), d_properties(*)
    integer(c_int), value, intent(in) :: n
    real(c_double), intent(out) :: e(*), d_e(*)
    type(emissivity_model), pointer :: model
    integer :: m, result_status
    call c_f_pointer(handle, model)
    m = model%n_properties
    call emissivity_tl(model, tsfc, properties(:m), zenith, frequency(:n), vertical(:n), d_tsfc, &
                       d_properties(:m), e(:n), d_e(:n), result_status)
    status = int(result_status, c_int)
  end function tangent

  integer(c_int) function adjoint(handle, tsfc, properties, zenith, n, frequency, vertical, &
      ad_e, ad_tsfc, ad_properties) bind(c, name='seaice_emissivity_adjoint') result(status)
    type(c_ptr), value, intent(in) :: handle
    real(c_double), value, intent(in) :: tsfc, zenith
    real(c_double), intent(in) :: properties(*), frequency(*), vertical(*), ad_e(*)
    integer(c_int), value, intent(in) :: n
    real(c_double), intent(inout) :: ad_tsfc, ad_properties(*)
    type(emissivity_model), pointer :: model
    integer :: m, result_status
    call c_f_pointer(handle, model)
    m = model%n_properties
    call emissivity_ad(model, tsfc, properties(:m), zenith, frequency(:n), vertical(:n), ad_e(:n), &
                       ad_tsfc, ad_properties(:m), result_status)
    status = int(result_status, c_int)
  end function adjoint

end module seaice_emissivity_c

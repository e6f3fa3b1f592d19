! Print the emissivity of sea ice and its derivative with respect to the skin temperature:
!   gfortran -O2 seaice_emissivity.f90 example.f90 -o example && ./example emissivity.coef
program example
  use, intrinsic :: iso_fortran_env, only: dp => real64, error_unit
  use seaice_emissivity
  implicit none
  type(emissivity_model) :: model
  character(1024) :: path, message
  integer :: status, channel, n
  real(dp), allocatable :: properties(:), e(:), d_e(:)

  call get_command_argument(1, path)
  call read_coefficients(trim(path), model, status, message)
  if (status /= 0) then
    write(error_unit, '(a)') trim(message)
  else
    n = size(model%channel_name)
    allocate(properties(model%n_properties), e(n), d_e(n))
    properties = 0
    ! a change of the skin temperature by 1 K gives the derivative
    call emissivity_tl(model, 250.0_dp, properties, 55.0_dp, model%channel_frequency, &
                       model%channel_vertical, 1.0_dp, properties, e, d_e, status)
    do channel = 1, n
      print '(a16, 2f12.8)', model%channel_name(channel), e(channel), d_e(channel)
    end do
  end if
end program example

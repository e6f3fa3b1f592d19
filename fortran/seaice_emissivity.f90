! Emissivity of sea ice from a coefficient file of seaice_lab, with tangent linear and adjoint.
!
! Fortran 2008, double precision, no library. One call computes all channels at one point. After
! read_coefficients, all procedures are pure and only read the model, so threads may share it.
! No procedure stops the program: status is 0 after success and positive after an error.
!
! Arguments of one point:
!   tsfc            skin temperature, K
!   properties(:)   empirical properties of the ice, model%n_properties numbers
!   zenith          zenith angle, degrees; ignored by a network that does not use it
!   frequency(:)    GHz, of each channel
!   vertical(:)     share of vertical polarisation in each channel, 1 vertical to 0 horizontal
!   e(:)            emissivity of each channel
! The network of version 2 takes any frequency. Networks of version 1 have the channels of their
! training: they ignore frequency and vertical, and e must have the size and order of
! model%channel_name. Derivatives are with respect to skin temperature and properties only.
module seaice_emissivity
  use, intrinsic :: iso_fortran_env, only: dp => real64, int64
  implicit none
  private
  public :: read_coefficients, emissivity, emissivity_tl, emissivity_ad, emissivity_k

  character(*), parameter :: header = 'seaice_lab emissivity coefficients, format 1'
  real(dp), parameter :: radians = acos(-1.0_dp) / 180

  type :: layer_type
    logical :: is_sigmoid                 ! else linear
    real(dp), allocatable :: weight(:, :) ! (input, unit)
    real(dp), allocatable :: bias(:)      ! (unit)
  end type layer_type

  type, public :: emissivity_model
    character(256) :: title, source, history
    character(16) :: network              ! linear, sigmoid or frequency
    integer :: n_properties = -1
    logical :: uses_zenith
    real(dp) :: nadir_zenith              ! zenith angle of the training, degrees, of a network
    ! whose difference of the polarisations vanishes towards nadir; 0 of other networks
    real(dp), allocatable :: offset(:), scale(:), lowest(:) ! of each input
    character(32), allocatable :: channel_name(:)           ! channels of the training
    real(dp), allocatable :: channel_frequency(:), channel_vertical(:)
    type(layer_type), allocatable :: layers(:)
  end type emissivity_model

contains

  ! Read a coefficient file. After an error, message says what is wrong.
  subroutine read_coefficients(path, model, status, message)
    character(*), intent(in) :: path
    type(emissivity_model), intent(out) :: model
    integer, intent(out) :: status
    character(*), intent(out) :: message
    character(512) :: line
    integer :: unit, i, j, n_in, n_out
    real(dp) :: numbers(3)

    message = ''
    open(newunit=unit, file=path, status='old', action='read', iostat=status, iomsg=message)
    if (status /= 0) return
    call verify(unit, status, message)
    rewind(unit)
    call next(header)
    call next('title'); model%title = line(:256)
    call next('source'); model%source = line(:256)
    call next('history'); model%history = line(:256)
    call next('network'); model%network = line(:16)
    model%n_properties = count_of('n_properties')
    model%uses_zenith = count_of('uses_zenith') == 1
    call next_numbers('nadir_zenith', numbers(:1)); model%nadir_zenith = numbers(1)
    n_in = count_of('n_inputs')
    allocate(model%offset(n_in), model%scale(n_in), model%lowest(n_in))
    do i = 1, n_in
      call next_numbers('input', numbers)
      model%offset(i) = numbers(1); model%scale(i) = numbers(2); model%lowest(i) = numbers(3)
    end do
    n_out = count_of('n_channels')
    allocate(model%channel_name(n_out), model%channel_frequency(n_out), model%channel_vertical(n_out))
    do i = 1, n_out
      call next('channel'); model%channel_name(i) = line(:32)
      call next_numbers('', numbers(:2))
      model%channel_frequency(i) = numbers(1); model%channel_vertical(i) = numbers(2)
    end do
    allocate(model%layers(count_of('n_layers')))
    do i = 1, size(model%layers)
      n_in = count_of('n_inputs'); n_out = count_of('n_units')
      call next('activation'); model%layers(i)%is_sigmoid = line == 'sigmoid'
      allocate(model%layers(i)%weight(n_in, n_out), model%layers(i)%bias(n_out))
      do j = 1, n_out ! one number on each line
        call next_column(model%layers(i)%weight(:, j))
      end do
      call next_column(model%layers(i)%bias)
    end do
    close(unit)
    if (status == 0) return
    status = abs(status)    ! the end of a file is negative
    model%n_properties = -1 ! no procedure accepts the model
    message = trim(path)//': '//trim(message)

  contains

    ! The rest of the next line after its key; nothing happens after an error.
    subroutine next(key)
      character(*), intent(in) :: key
      if (status /= 0) return
      read(unit, '(a)', iostat=status, iomsg=message) line
      if (status /= 0) return
      if (index(line, key) /= 1) then
        status = 2
        message = 'has the line '''//trim(line)//''', expected '''//key//'''; use the Fortran '// &
                  'module of the version of seaice_lab that wrote the file'
      end if
      line = adjustl(line(len(key) + 1:))
    end subroutine next

    subroutine next_numbers(key, values)
      character(*), intent(in) :: key
      real(dp), intent(out) :: values(:)
      values = 0
      call next(key)
      if (status == 0) read(line, *, iostat=status, iomsg=message) values
    end subroutine next_numbers

    subroutine next_column(values)
      real(dp), intent(out) :: values(:)
      integer :: row
      do row = 1, size(values)
        call next_numbers('', values(row:row))
      end do
    end subroutine next_column

    integer function count_of(key)
      character(*), intent(in) :: key
      real(dp) :: values(1)
      call next_numbers(key, values)
      count_of = nint(values(1))
    end function count_of

  end subroutine read_coefficients

  ! Compare the CRC-32 of all lines with that of the last line: a file that was cut short or
  ! changed is refused before its numbers are used.
  subroutine verify(unit, status, message)
    integer, intent(in) :: unit
    integer, intent(out) :: status
    character(*), intent(out) :: message
    integer(int64), parameter :: ones = int(z'FFFFFFFF', int64), poly = int(z'EDB88320', int64)
    integer(int64) :: crc
    character(512) :: line
    character(8) :: written
    character(:), allocatable :: text
    integer :: i, bit

    crc = ones
    message = 'is not a complete coefficient file, or was changed; write it again with '// &
              '`seaice-lab emissivity export`'
    do
      read(unit, '(a)', iostat=status) line
      if (status /= 0) return
      if (index(line, 'crc32 ') == 1) exit
      text = trim(line)//new_line(line)
      do i = 1, len(text)
        crc = ieor(crc, int(iachar(text(i:i)), int64))
        do bit = 1, 8
          crc = ieor(shiftr(crc, 1), merge(poly, 0_int64, btest(crc, 0)))
        end do
      end do
    end do
    write(written, '(z8.8)') ieor(crc, ones)
    status = merge(0, 1, line(7:14) == written)
    if (status == 0) message = ''
  end subroutine verify

  ! Emissivity of each channel.
  pure subroutine emissivity(model, tsfc, properties, zenith, frequency, vertical, e, status)
    type(emissivity_model), intent(in) :: model
    real(dp), intent(in) :: tsfc, properties(:), zenith, frequency(:), vertical(:)
    real(dp), intent(out) :: e(:)
    integer, intent(out) :: status
    real(dp) :: k(1 + size(properties), size(e))
    call emissivity_k(model, tsfc, properties, zenith, frequency, vertical, e, k, status)
  end subroutine emissivity

  ! Tangent linear: change d_e of the emissivity for changes of skin temperature and properties.
  pure subroutine emissivity_tl(model, tsfc, properties, zenith, frequency, vertical, &
                                d_tsfc, d_properties, e, d_e, status)
    type(emissivity_model), intent(in) :: model
    real(dp), intent(in) :: tsfc, properties(:), zenith, frequency(:), vertical(:)
    real(dp), intent(in) :: d_tsfc, d_properties(:)
    real(dp), intent(out) :: e(:), d_e(:)
    integer, intent(out) :: status
    real(dp) :: k(1 + size(properties), size(e))
    call emissivity_k(model, tsfc, properties, zenith, frequency, vertical, e, k, status)
    d_e = 0
    if (size(d_properties) /= size(properties) .or. size(d_e) /= size(e)) status = 1
    if (status == 0) d_e = matmul([d_tsfc, d_properties], k)
  end subroutine emissivity_tl

  ! Adjoint: adds to ad_tsfc and ad_properties the gradient of sum(ad_e * e).
  pure subroutine emissivity_ad(model, tsfc, properties, zenith, frequency, vertical, &
                                ad_e, ad_tsfc, ad_properties, status)
    type(emissivity_model), intent(in) :: model
    real(dp), intent(in) :: tsfc, properties(:), zenith, frequency(:), vertical(:), ad_e(:)
    real(dp), intent(inout) :: ad_tsfc, ad_properties(:)
    integer, intent(out) :: status
    real(dp) :: e(size(ad_e)), k(1 + size(properties), size(ad_e)), gradient(1 + size(properties))
    call emissivity_k(model, tsfc, properties, zenith, frequency, vertical, e, k, status)
    if (size(ad_properties) /= size(properties)) status = 1
    if (status /= 0) return
    gradient = matmul(k, ad_e)
    ad_tsfc = ad_tsfc + gradient(1)
    ad_properties = ad_properties + gradient(2:)
  end subroutine emissivity_ad

  ! Emissivity and its Jacobian k(variable, channel): skin temperature, then each property.
  pure subroutine emissivity_k(model, tsfc, properties, zenith, frequency, vertical, e, k, status)
    type(emissivity_model), intent(in) :: model
    real(dp), intent(in) :: tsfc, properties(:), zenith, frequency(:), vertical(:)
    real(dp), intent(out) :: e(:), k(:, :)
    integer, intent(out) :: status
    real(dp), allocatable :: x(:), y(:), dy(:, :)
    real(dp) :: ratio, mixing, share
    integer :: n, channel
    logical :: fixed_channels

    e = 0
    k = 0
    status = 1 ! until all sizes are known to be right; also for a model that was not read
    if (size(properties) /= model%n_properties) return
    if (size(k, 1) /= 1 + model%n_properties .or. size(k, 2) /= size(e)) return
    fixed_channels = model%network /= 'frequency'
    if (fixed_channels) then
      if (size(e) /= size(model%channel_name)) return
    else
      if (size(frequency) /= size(e) .or. size(vertical) /= size(e)) return
    end if
    status = 0
    n = 1 + model%n_properties
    allocate(x(size(model%offset)))
    x(1) = tsfc
    x(2:n) = properties
    if (fixed_channels) then
      call apply_network(model, x, y, dy)
      e = y
      k = dy
      return
    end if
    if (model%uses_zenith) x(n + 1) = zenith
    ! Where the difference of the polarisations vanishes towards nadir, it is proportional to
    ! sin^2 of the zenith angle, and the mean of both is that of the training.
    mixing = 0
    if (model%nadir_zenith > 0) then
      ratio = (sin(zenith * radians) / sin(model%nadir_zenith * radians))**2
      mixing = (1 - ratio) / 2
    end if
    do channel = 1, size(e)
      x(size(x)) = frequency(channel)
      call apply_network(model, x, y, dy)
      share = vertical(channel) * (1 - mixing) + (1 - vertical(channel)) * mixing
      e(channel) = share * y(1) + (1 - share) * y(2)
      k(:, channel) = share * dy(:, 1) + (1 - share) * dy(:, 2)
    end do
  end subroutine emissivity_k

  ! Outputs y(unit) of the network and derivatives dy(variable, unit), for inputs in their units.
  ! Derivatives go forwards with the values: there are few variables and many channels.
  pure subroutine apply_network(model, x, y, dy)
    type(emissivity_model), intent(in) :: model
    real(dp), intent(in) :: x(:)
    real(dp), allocatable, intent(out) :: y(:), dy(:, :)
    integer :: i, layer

    y = (x - model%offset) / model%scale
    allocate(dy(1 + model%n_properties, size(x)))
    dy = 0
    do i = 1, size(dy, 1)
      dy(i, i) = 1 / model%scale(i)
    end do
    do i = 1, size(x)
      if (y(i) < model%lowest(i)) then ! not max(), which may hide a NaN
        y(i) = model%lowest(i)
        dy(:, i) = 0
      end if
    end do
    do layer = 1, size(model%layers)
      y = matmul(y, model%layers(layer)%weight) + model%layers(layer)%bias
      dy = matmul(dy, model%layers(layer)%weight)
      if (model%layers(layer)%is_sigmoid) then
        y = (1 + tanh(y / 2)) / 2 ! the sigmoid without an overflow
        do i = 1, size(y)
          dy(:, i) = y(i) * (1 - y(i)) * dy(:, i)
        end do
      end if
    end do
  end subroutine apply_network

end module seaice_emissivity

# Makes the bitstream of a Nomul machine for a Kria KV260:
#
#     vivado -mode batch -source build.tcl
#
# It needs a Vivado with the board files of the KV260. It leaves nomul.bit, nomul.hwh and nomul.xsa beside it, and
# nothing of the kind if the design misses its clock. What the machine is, settings.tcl says.

set folder [file dirname [file normalize [info script]]]
source [file join $folder settings.tcl]
set design nomul
set control_base 0xA0000000

# --- project

set boards [get_board_parts -quiet *:$board:part0:*]
if {[llength $boards] == 0} {
    error "this Vivado has no board files of $board; install them in its board store (Tools, Vivado Store)"
}
create_project $design [file join $folder vivado] -part $part -force
set_property board_part [lindex [lsort -dictionary $boards] end] [current_project]
add_files -norecurse [glob [file join $folder rtl *.v]]
set memories [glob -nocomplain [file join $folder rtl *.hex]]
if {[llength $memories] > 0} {
    add_files -norecurse $memories
    set_property file_type {Memory Initialization Files} [get_files $memories]
}
add_files -fileset constrs_1 -norecurse [file join $folder kv260.xdc]
update_compile_order -fileset sources_1

# --- cells

create_bd_design $design
create_bd_cell -type ip -vlnv xilinx.com:ip:zynq_ultra_ps_e ps
apply_bd_automation -rule xilinx.com:bd_rule:zynq_ultra_ps_e -config {apply_board_preset 1} [get_bd_cells ps]
set configuration [list \
    CONFIG.PSU__FPGA_PL0_ENABLE 1 \
    CONFIG.PSU__CRL_APB__PL0_REF_CTRL__FREQMHZ $clock_mhz \
    CONFIG.PSU__USE__M_AXI_GP0 1 \
    CONFIG.PSU__USE__M_AXI_GP1 0 \
    CONFIG.PSU__USE__M_AXI_GP2 0 \
    CONFIG.PSU__USE__IRQ0 1 \
]
# S_AXI_GP2 to GP5 are the ports HP0 to HP3.
for {set port 0} {$port < $ports} {incr port} {
    set slave [expr {$port + 2}]
    lappend configuration CONFIG.PSU__USE__S_AXI_GP$slave 1 CONFIG.PSU__SAXIGP${slave}__DATA_WIDTH $port_bits
}
set_property -dict $configuration [get_bd_cells ps]
create_bd_cell -type ip -vlnv xilinx.com:ip:proc_sys_reset reset
create_bd_cell -type module -reference $top machine

proc join_buses {cell from to} {
    create_bd_cell -type ip -vlnv xilinx.com:ip:smartconnect $cell
    set_property -dict [list CONFIG.NUM_SI 1 CONFIG.NUM_MI 1] [get_bd_cells $cell]
    connect_bd_intf_net [get_bd_intf_pins $from] [get_bd_intf_pins $cell/S00_AXI]
    connect_bd_intf_net [get_bd_intf_pins $cell/M00_AXI] [get_bd_intf_pins $to]
}

set clocks {reset/slowest_sync_clk machine/aclk ps/maxihpm0_fpd_aclk control/aclk}
set resets {control/aresetn}
join_buses control ps/M_AXI_HPM0_FPD machine/s_axi
for {set port 0} {$port < $ports} {incr port} {
    join_buses memory$port machine/m_axi$port ps/S_AXI_HP${port}_FPD
    lappend clocks ps/saxihp${port}_fpd_aclk memory$port/aclk
    lappend resets memory$port/aresetn
}
foreach pin $clocks {
    connect_bd_net [get_bd_pins ps/pl_clk0] [get_bd_pins $pin]
}
connect_bd_net [get_bd_pins ps/pl_resetn0] [get_bd_pins reset/ext_reset_in]
connect_bd_net [get_bd_pins reset/peripheral_aresetn] [get_bd_pins machine/aresetn]
foreach pin $resets {
    connect_bd_net [get_bd_pins reset/interconnect_aresetn] [get_bd_pins $pin]
}
connect_bd_net [get_bd_pins machine/irq] [get_bd_pins ps/pl_ps_irq0]

# --- addresses: the registers where the PS sees HPM0, and for each port the lower 2 GiB of the DDR memory

assign_bd_address -offset $control_base -range 64K \
    -target_address_space [get_bd_addr_spaces ps/Data] [get_bd_addr_segs machine/s_axi/reg0]
for {set port 0} {$port < $ports} {incr port} {
    set space [get_bd_addr_spaces machine/m_axi$port]
    set slave ps/SAXIGP[expr {$port + 2}]
    set memory $slave/HP${port}_DDR_LOW
    assign_bd_address -offset 0x0 -range 2G -target_address_space $space [get_bd_addr_segs $memory]
    foreach other {DDR_HIGH QSPI LPS_OCM} {
        set segment [get_bd_addr_segs -quiet $slave/HP${port}_$other]
        if {[llength $segment] > 0} {
            exclude_bd_addr_seg -target_address_space $space $segment
        }
    }
}
validate_bd_design
save_bd_design

# --- bitstream

set wrapper [make_wrapper -files [get_files $design.bd] -top]
add_files -norecurse $wrapper
set_property top ${design}_wrapper [current_fileset]
update_compile_order -fileset sources_1
launch_runs impl_1 -to_step write_bitstream -jobs 4
wait_on_run impl_1
if {[get_property PROGRESS [get_runs impl_1]] ne "100%"} {
    error "the implementation did not finish: [get_property STATUS [get_runs impl_1]]"
}
open_run impl_1
report_utilization -hierarchical -file [file join $folder utilization.txt]
report_timing_summary -file [file join $folder timing.txt]
set slack [get_property SLACK [get_timing_paths -setup]]
if {$slack < 0} {
    error "the design misses its clock of $clock_mhz MHz by [expr {-$slack}] ns; timing.txt has the paths"
}
write_hw_platform -fixed -include_bit -force -file [file join $folder $design.xsa]
set run [get_property DIRECTORY [get_runs impl_1]]
file copy -force [file join $run ${design}_wrapper.bit] [file join $folder $design.bit]
set handoff [glob [file join $folder vivado $design.{gen,srcs} sources_1 bd $design hw_handoff $design.hwh]]
file copy -force [lindex $handoff 0] [file join $folder $design.hwh]
puts "nomul.bit, nomul.hwh and nomul.xsa are in $folder; $slack ns are left of the clock's period"

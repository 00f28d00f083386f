// A DRAM behind PORTS AXI4 slaves, for simulation: one memory, whose bandwidth all ports and both directions share.
//
// Read beats of a burst come READ_LATENCY cycles after its address or later. A write beat reaches the memory
// WRITE_LATENCY cycles after it was taken or later, so that who reads before the answer has come may read what was
// there. A cycle's bandwidth is RATE_BYTES / RATE_CYCLES bytes; what a cycle leaves, later ones may use, up to two beats
// of every port. In the first REFRESH_CYCLES of every REFRESH_EVERY cycles nothing moves in the memory. `violation`
// stays up once a master has broken a rule of AXI, and a line on the console says which.
module NOMUL_DRAM #(
    parameter PORTS = 1,
    parameter BITS = 64,
    parameter ADDRESS = 32,
    parameter WORDS = 1024,  // memory, in words of 32 bits; other addresses are answered with DECERR
    parameter FILE = "",  // its contents from address 0 on, in binary, if there is such a file
    parameter RATE_BYTES = 1,
    parameter RATE_CYCLES = 1,
    parameter READ_LATENCY = 1,
    parameter WRITE_LATENCY = 1,
    parameter REFRESH_EVERY = 0,
    parameter REFRESH_CYCLES = 0,
    parameter OUTSTANDING = 16  // bursts of a port and direction
) (
    input clk,
    input rst,
    input [7:0] stall,  // each channel of each port waits with this probability, in 256ths
    input [ADDRESS-1:0] error_low,  // beats in error_low..error_high-1 are answered with SLVERR
    input [ADDRESS-1:0] error_high,
    input [PORTS*ADDRESS-1:0] araddr,
    input [PORTS*8-1:0] arlen,
    input [PORTS*3-1:0] arsize,
    input [PORTS*2-1:0] arburst,
    input [PORTS-1:0] arvalid,
    output reg [PORTS-1:0] arready,
    output reg [PORTS*BITS-1:0] rdata,
    output reg [PORTS*2-1:0] rresp,
    output reg [PORTS-1:0] rlast,
    output reg [PORTS-1:0] rvalid,
    input [PORTS-1:0] rready,
    input [PORTS*ADDRESS-1:0] awaddr,
    input [PORTS*8-1:0] awlen,
    input [PORTS*3-1:0] awsize,
    input [PORTS*2-1:0] awburst,
    input [PORTS-1:0] awvalid,
    output reg [PORTS-1:0] awready,
    input [PORTS*BITS-1:0] wdata,
    input [PORTS*BITS/8-1:0] wstrb,
    input [PORTS-1:0] wlast,
    input [PORTS-1:0] wvalid,
    output reg [PORTS-1:0] wready,
    output reg [PORTS*2-1:0] bresp,
    output reg [PORTS-1:0] bvalid,
    input [PORTS-1:0] bready,
    output reg violation,
    output reg [63:0] read_beats,
    output reg [63:0] write_beats
);
  localparam BYTES = BITS / 8;
  localparam SIZE = $clog2(BYTES);
  localparam COST = BYTES * RATE_CYCLES;
  localparam CREDIT_MAX = 2 * PORTS * COST;
  localparam BEATS = WRITE_LATENCY + 8;  // write beats of a port that wait for the memory
  localparam OKAY = 2'b00, SLVERR = 2'b10, DECERR = 2'b11;

  reg [31:0] words[0:WORDS-1];
  integer file, count, number;
  initial begin
    file = $fopen(FILE, "rb");
    if (file != 0) begin
      count = $fread(words, file);
      $fclose(file);
      // $fread takes the first byte as the highest.
      for (number = 0; 4 * number < count; number = number + 1)
      words[number] = {words[number][7:0], words[number][15:8], words[number][23:16], words[number][31:24]};
    end
  end

  // Queues of each port; `first` and `some` are the place of the oldest entry and the number of entries.
  reg [ADDRESS-1:0] ar_address[0:PORTS*OUTSTANDING-1];
  reg [7:0] ar_length[0:PORTS*OUTSTANDING-1];
  reg [63:0] ar_due[0:PORTS*OUTSTANDING-1];
  reg [ADDRESS-1:0] aw_address[0:PORTS*OUTSTANDING-1];
  reg [7:0] aw_length[0:PORTS*OUTSTANDING-1];
  reg [BITS-1:0] w_data[0:PORTS*BEATS-1];
  reg [BYTES-1:0] w_strobe[0:PORTS*BEATS-1];
  reg w_last[0:PORTS*BEATS-1];
  reg [63:0] w_due[0:PORTS*BEATS-1];
  reg [1:0] b_response[0:PORTS*OUTSTANDING-1];
  integer ar_first[0:PORTS-1], ar_some[0:PORTS-1], ar_beat[0:PORTS-1];
  integer aw_first[0:PORTS-1], aw_some[0:PORTS-1], aw_beat[0:PORTS-1];
  integer w_first[0:PORTS-1], w_some[0:PORTS-1];
  integer b_first[0:PORTS-1], b_some[0:PORTS-1];
  reg [1:0] aw_response[0:PORTS-1];

  // What the masters said in the last cycle.
  reg [PORTS-1:0] ar_waited, aw_waited, w_waited;
  reg [PORTS*ADDRESS-1:0] araddr_was, awaddr_was;
  reg [PORTS*13-1:0] ar_was, aw_was;
  reg [PORTS*BITS-1:0] wdata_was;
  reg [PORTS*BYTES-1:0] wstrb_was;
  reg [PORTS-1:0] wlast_was;

  reg [63:0] cycle, reads, writes;
  integer credit, refresh, turn, port, slot, byte_index;
  reg broken;
  reg [31:0] dice;
  reg [ADDRESS-1:0] address;
  reg [1:0] response;
  reg [BITS-1:0] beat;
  reg [BYTES-1:0] strobe;
  // The outputs to come.
  reg [PORTS*BITS-1:0] data_next;
  reg [PORTS*2-1:0] rresp_next, bresp_next;
  reg [PORTS-1:0] rlast_next, rvalid_next, bvalid_next, arready_next, awready_next, wready_next;

  function [1:0] answer(input [ADDRESS-1:0] place);
    if ((place >> 2) >= WORDS) answer = DECERR;
    else if (place >= error_low && place < error_high) answer = SLVERR;
    else answer = OKAY;
  endfunction

  // Xorshift (Marsaglia, 2003); true with probability stall / 256.
  task draw(output waits);
    begin
      dice  = dice ^ (dice << 13);
      dice  = dice ^ (dice >> 17);
      dice  = dice ^ (dice << 5);
      waits = dice[15:8] < stall;
    end
  endtask

  task broke(input [8*40-1:0] rule);
    begin
      broken = 1;
      $display("NOMUL_DRAM: port %0d, cycle %0d: %0s", port, cycle, rule);
    end
  endtask

  task check_address(input [ADDRESS-1:0] place, input [7:0] length, input [2:0] size, input [1:0] burst);
    begin
      if (burst != 2'b01) broke("a burst is not INCR");
      if (size != SIZE) broke("beats are narrower than the port");
      if (place & (BYTES - 1)) broke("an address is not that of a beat");
      if ((place & 4095) + (length + 1) * BYTES > 4096) broke("a burst crosses 4096 bytes");
    end
  endtask

  reg waits;
  initial begin
    cycle = 0;
    reads = 0;
    writes = 0;
    broken = 0;
    dice = 32'h9e3779b9;
    violation = 0;
    read_beats = 0;
    write_beats = 0;
    arready = 0;
    awready = 0;
    wready = 0;
    rvalid = 0;
    bvalid = 0;
    ar_waited = 0;
    aw_waited = 0;
    w_waited = 0;
    credit = 0;
    refresh = 0;
    for (port = 0; port < PORTS; port = port + 1) begin
      ar_first[port] = 0;
      ar_some[port] = 0;
      ar_beat[port] = 0;
      aw_first[port] = 0;
      aw_some[port] = 0;
      aw_beat[port] = 0;
      w_first[port] = 0;
      w_some[port] = 0;
      b_first[port] = 0;
      b_some[port] = 0;
      aw_response[port] = 0;
    end
  end

  always @(posedge clk) begin
    cycle = cycle + 1;
    data_next = rdata;
    rresp_next = rresp;
    bresp_next = bresp;
    rlast_next = rlast;
    rvalid_next = rvalid & ~rready;
    bvalid_next = bvalid & ~bready;
    arready_next = 0;
    awready_next = 0;
    wready_next = 0;

    refresh = refresh + 1;
    if (refresh >= REFRESH_EVERY) refresh = 0;
    if (refresh >= REFRESH_CYCLES) credit = credit + RATE_BYTES;
    else credit = 0;
    if (credit > CREDIT_MAX) credit = CREDIT_MAX;

    for (turn = 0; turn < PORTS; turn = turn + 1) begin
      port = (turn + cycle) % PORTS;

      // Rules.
      if (ar_waited[port] && !(arvalid[port] && araddr[port*ADDRESS+:ADDRESS] == araddr_was[port*ADDRESS+:ADDRESS]
          && {arlen[port*8+:8], arsize[port*3+:3], arburst[port*2+:2]} == ar_was[port*13+:13]))
        broke("AR changed while it waited");
      if (aw_waited[port] && !(awvalid[port] && awaddr[port*ADDRESS+:ADDRESS] == awaddr_was[port*ADDRESS+:ADDRESS]
          && {awlen[port*8+:8], awsize[port*3+:3], awburst[port*2+:2]} == aw_was[port*13+:13]))
        broke("AW changed while it waited");
      if (w_waited[port] && !(wvalid[port] && wdata[port*BITS+:BITS] == wdata_was[port*BITS+:BITS]
          && wstrb[port*BYTES+:BYTES] == wstrb_was[port*BYTES+:BYTES] && wlast[port] == wlast_was[port]))
        broke("W changed while it waited");

      // Take what is offered.
      if (arvalid[port] && arready[port]) begin
        check_address(araddr[port*ADDRESS+:ADDRESS], arlen[port*8+:8], arsize[port*3+:3], arburst[port*2+:2]);
        slot = port * OUTSTANDING + (ar_first[port] + ar_some[port]) % OUTSTANDING;
        ar_address[slot] = araddr[port*ADDRESS+:ADDRESS];
        ar_length[slot] = arlen[port*8+:8];
        ar_due[slot] = cycle + READ_LATENCY;
        ar_some[port] = ar_some[port] + 1;
      end
      if (awvalid[port] && awready[port]) begin
        check_address(awaddr[port*ADDRESS+:ADDRESS], awlen[port*8+:8], awsize[port*3+:3], awburst[port*2+:2]);
        slot = port * OUTSTANDING + (aw_first[port] + aw_some[port]) % OUTSTANDING;
        aw_address[slot] = awaddr[port*ADDRESS+:ADDRESS];
        aw_length[slot] = awlen[port*8+:8];
        aw_some[port] = aw_some[port] + 1;
      end
      if (wvalid[port] && wready[port]) begin
        slot = port * BEATS + (w_first[port] + w_some[port]) % BEATS;
        w_data[slot] = wdata[port*BITS+:BITS];
        w_strobe[slot] = wstrb[port*BYTES+:BYTES];
        w_last[slot] = wlast[port];
        w_due[slot] = cycle + WRITE_LATENCY;
        w_some[port] = w_some[port] + 1;
      end

      // A read beat.
      draw(waits);
      slot = port * OUTSTANDING + ar_first[port];
      if (!rvalid_next[port] && !waits && credit >= COST && ar_some[port] != 0 && ar_due[slot] <= cycle) begin
        address = ar_address[slot] + ar_beat[port] * BYTES;
        response = answer(address);
        beat = {BITS{1'b1}};
        if (response == OKAY)
          for (byte_index = 0; byte_index < BYTES / 4; byte_index = byte_index + 1)
          beat[32*byte_index+:32] = words[(address>>2)+byte_index];
        data_next[port*BITS+:BITS] = beat;
        rresp_next[port*2+:2] = response;
        rlast_next[port] = ar_beat[port] == ar_length[slot];
        rvalid_next[port] = 1;
        ar_beat[port] = ar_beat[port] + 1;
        if (rlast_next[port]) begin
          ar_beat[port]  = 0;
          ar_first[port] = (ar_first[port] + 1) % OUTSTANDING;
          ar_some[port]  = ar_some[port] - 1;
        end
        credit = credit - COST;
        reads  = reads + 1;
      end

      // A write beat.
      if (w_some[port] != 0 && w_due[port*BEATS+w_first[port]] <= cycle && aw_some[port] != 0 && credit >= COST) begin
        slot = port * OUTSTANDING + aw_first[port];
        address = aw_address[slot] + aw_beat[port] * BYTES;
        response = answer(address);
        beat = w_data[port*BEATS+w_first[port]];
        strobe = w_strobe[port*BEATS+w_first[port]];
        if (response == OKAY)
          for (byte_index = 0; byte_index < BYTES; byte_index = byte_index + 1)
          if (strobe[byte_index])
            words[(address>>2)+byte_index/4][8*(byte_index%4)+:8] = beat[8*byte_index+:8];
        aw_response[port] = aw_response[port] | response;
        if (w_last[port*BEATS+w_first[port]] != (aw_beat[port] == aw_length[slot])) broke("WLAST is wrong");
        w_first[port] = (w_first[port] + 1) % BEATS;
        w_some[port] = w_some[port] - 1;
        if (aw_beat[port] == aw_length[slot]) begin
          slot = port * OUTSTANDING + (b_first[port] + b_some[port]) % OUTSTANDING;
          b_response[slot] = aw_response[port];
          b_some[port] = b_some[port] + 1;
          aw_response[port] = OKAY;
          aw_beat[port] = 0;
          aw_first[port] = (aw_first[port] + 1) % OUTSTANDING;
          aw_some[port] = aw_some[port] - 1;
        end else aw_beat[port] = aw_beat[port] + 1;
        credit = credit - COST;
        writes = writes + 1;
      end

      // An answer to a write.
      draw(waits);
      slot = port * OUTSTANDING + b_first[port];
      if (!bvalid_next[port] && !waits && b_some[port] != 0) begin
        bresp_next[port*2+:2] = b_response[slot];
        bvalid_next[port] = 1;
        b_first[port] = (b_first[port] + 1) % OUTSTANDING;
        b_some[port] = b_some[port] - 1;
      end

      draw(waits);
      arready_next[port] = !waits && ar_some[port] < OUTSTANDING;
      draw(waits);
      awready_next[port] = !waits && aw_some[port] + b_some[port] < OUTSTANDING;
      draw(waits);
      wready_next[port] = !waits && w_some[port] < BEATS;

      if (rst) begin
        ar_some[port] = 0;
        ar_beat[port] = 0;
        aw_some[port] = 0;
        aw_beat[port] = 0;
        aw_response[port] = 0;
        w_some[port] = 0;
        b_some[port] = 0;
      end
    end

    ar_waited = rst ? 0 : arvalid & ~arready;
    aw_waited = rst ? 0 : awvalid & ~awready;
    w_waited = rst ? 0 : wvalid & ~wready;
    araddr_was = araddr;
    awaddr_was = awaddr;
    wdata_was = wdata;
    wstrb_was = wstrb;
    wlast_was = wlast;
    for (port = 0; port < PORTS; port = port + 1) begin
      ar_was[port*13+:13] = {arlen[port*8+:8], arsize[port*3+:3], arburst[port*2+:2]};
      aw_was[port*13+:13] = {awlen[port*8+:8], awsize[port*3+:3], awburst[port*2+:2]};
    end

    rdata <= data_next;
    rresp <= rresp_next;
    rlast <= rlast_next;
    rvalid <= rst ? 0 : rvalid_next;
    bresp <= bresp_next;
    bvalid <= rst ? 0 : bvalid_next;
    arready <= rst ? 0 : arready_next;
    awready <= rst ? 0 : awready_next;
    wready <= rst ? 0 : wready_next;
    violation <= broken;
    read_beats <= reads;
    write_beats <= writes;
  end
endmodule
